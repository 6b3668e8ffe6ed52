"""Ids and spellings of the special tokens, which text, losses, models, data and decoding share."""

PAD, SOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<sos>", "<eos>")
UNKNOWN = "<unk>"
