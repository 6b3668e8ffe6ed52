"""How the texts of the E2E data (restaurants) express the values of their slots.

The patterns were written for AttendGen from the texts of the training set. They are matched with lower-case texts
without accents and hyphens, in which numbers are digits; see `simplify`.
"""

import re
import unicodedata

DIGITS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}

PRICE = r"(?:pric\w+|cost\w*)"
RATING = r"(?:rat\w+|review\w*|scor\w+|rank\w*)"
PEOPLE = r"(?:famil(?:y|ies)|kids?|child(?:ren)?s?)"
# words between a price or a rating and its value
BETWEEN = (
    "(?:(?:range|ranges|is|are|being|of|in|at|as|a|an|the|it|its|them|their|experience|very|and|quite|has|have|been|"
    "from|rather|fairly|relatively|somewhat|pretty|that|by|customers?|consumers?|with|only) ){0,4}"
)
OF_RATING = r"(?! (?:customer|costumer|consumer|rat|review|star|quality))"
OF_PRICE = rf"(?! (?:range |end |in )?{PRICE})"


def simplify(text: str) -> str:
    """Return a text in lower case, without accents, apostrophes and hyphens, with the numbers up to five as digits."""
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"['’`]", "", text)
    text = re.sub(r"(?:[^\w£.,!?;]|_)+", " ", text)
    text = text.replace("£ ", "£")
    return re.sub(r"\b(?:one|two|three|four|five)\b", lambda match: DIGITS[match.group()], text)


def _price(values: str, more: str = "") -> str:
    """Return a pattern of a price that is called one of `values`."""
    before = rf"\b(?:{values})(?:ly)? (?:(?:range|level|end|in|menu|food|meal) )?{PRICE}"
    return rf"{before}|\b{PRICE} {BETWEEN}(?:{more}(?:{values}))\b{OF_RATING}"


def _rating(values: str) -> str:
    """Return a pattern of a customer rating that is called one of `values`."""
    raters = "(?:(?:customers?|costumer|consumer|star|quality|overall|satisfaction|service) )*"
    before = rf"\b(?:{values})(?:ly)? {raters}{RATING}"
    after = rf"\b{RATING} {BETWEEN}(?:{values})(?:ly)?\b{OF_PRICE}"
    liking = rf"\b(?:{values})(?:ly)? (?:recommended|regarded|liked)"
    return rf"{before}|{after}|{liking}|\b(?:{values}) (?:customer )?(?:satisfaction|quality|service|feedback)"


def _stars(number: int) -> str:
    """Return a pattern of a rating by a number out of 5."""
    out_of = rf"\b{number} (?:\w+ )?(?:out )?(?:of|to|from) (?:a |a possible )?5\b|\b{number} (?:out )?5\b"
    alone = rf"\b{RATING} {BETWEEN}{number}\b(?! ?(?:out|our|put|of|stars?)\b)"
    return rf"{out_of}|(?<!\d of )(?<!ou[tr] of )(?<!put of )(?<!out )\b{number} star|{alone}"


# by slot: the values that are told apart, as patterns
PATTERNS = {
    "eatType": {
        "coffee shop": r"\bcoff?ee|\bcafe\b",
        "pub": r"\bpubs?\b",
        "restaurant": r"\brest[aeu]+r\w*nts?\b",
    },
    "food": {
        "english": r"\benglish|\bbritish",
        "french": r"\bfrench",
        "italian": r"\bitalian",
        "japanese": r"\bjapan|\bsushi",
        "indian": r"\bindian?\b",
        "chinese": r"\bchin(?:ese|a)\b",
        "fast food": r"\bfast food",
    },
    "priceRange": {
        "low": r"(?<!not )\bcheap|\binexpensive|\baffordabl|\blow budget|\bbudget|"
        rf"(?:less|lower|cheaper) tha[nt]? (?:£|l)?20|(?:under|below|up to) £?20|{_price('low(?:er|est)?')}",
        "moderate": r"\bmoderate(?!(?:ly)? (?:customer|rat))|£?20 ?(?:(?:to|and|or|euros?|pounds?) ?)*(?:£|l)?25|"
        rf"\bmid ?rang|\breasonabl\w+|{_price('average|medium|mid|fair|modest', '(?:about |around |above )?')}",
        "high": r"(?<!not )\bexpensive|\bcostly|\bpricey|\bupscale|\bup ?market|\bhigh end|"
        r"(?:more|higher|greater) tha[nt]? (?:£|l)?30|(?:over|above) (?:£|l)?30|"
        rf"£30 ?(?:or more|plus|and (?:above|up|over|more))|{_price('high(?:er|est|ly)?')}",
    },
    "customer rating": {
        "low": _rating("low(?:er|est)?|poor|bad"),
        "average": _rating("average|mid|medium|decent|moderate|ok|okay"),
        "high": _rating("high(?:er|est)?|excellent|great|top|good|well|perfect|outstanding|best"),
    },
    "stars": {"low": _stars(1), "average": _stars(3), "high": _stars(5)},
    "area": {
        "riverside": r"\briver|\bwaterside|\bwaterfront",
        "city centre": r"\bcent(?:re|er|ral)\b|\bdowntown\b|(?<!area of )(?<!area of the )\b(?:city|town)\b",
    },
    "familyFriendly": {
        "no": r"\b(?:not|no|non|none|isnt|arent|dont|doesnt|never|cannot|cant|without|unsuitable|unfriendly|avoid)\b"
        rf"(?: \w+){{0,6}}? {PEOPLE}\b|{PEOPLE}(?: friendly,?)? (?:\w+ ){{0,2}}(?:not|no|unfriendly|unwelcome|free)\b|"
        rf"\badults?\b|\bleave (?:the |your )?{PEOPLE}",
        "yes": rf"\b{PEOPLE}\b|\ball ages",
    },
}

# values that texts express alike
CLASSES = {
    "priceRange": {
        **{"cheap": "low", "less than £20": "low", "moderate": "moderate", "£20-25": "moderate"},
        **{"high": "high", "more than £30": "high"},
    },
    "customer rating": {
        **{"1 out of 5": "low", "3 out of 5": "average", "5 out of 5": "high"},
    },
}

# the values of "near" in the training set: another one in a text is an added value
PLACES = (
    *("All Bar One", "Avalon", "Burger King", "Café Adriatic", "Café Brazil", "Café Rouge", "Café Sicilia"),
    *("Clare Hall", "Crowne Plaza Hotel", "Express by Holiday Inn", "Raja Indian Cuisine", "Rainbow Vegetarian Café"),
    *("Ranch", "The Bakers", "The Portland Arms", "The Rice Boat", "The Six Bells", "The Sorrento"),
    "Yippee Noodle Bar",
)
