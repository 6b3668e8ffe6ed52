"""Take a screenshot of the attention page of a drawn image in Chromium, for docs/attention_page.png.

python scripts/screenshot.py RUN --out docs/attention_page.png

RUN is a run of experiment=shapes.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import attendgen
from attendgen.cli.script import script
from attendgen.data.captions.shapes import SIDE, draw_shape
from attendgen.utils.errors import UserError

SCALE = 10  # the image is drawn larger than those of the training, so that it is sharp
SHAPES = (("circle", "red", (16, 28), 6), ("triangle", "blue", (48, 38), 11))
WINDOW = (1280, 1080)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@script
def main() -> None:
    """Caption the image by beam search, write the page, and let the browser draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise UserError(f"screenshot: no browser; install one of {', '.join(BROWSERS)}")
    captioner = attendgen.load(options.run)
    with tempfile.TemporaryDirectory() as folder:
        image, page = Path(folder, "shapes.png"), Path(folder, "page.html")
        draw_image().save(image)
        results = captioner.caption(image, beam_size=5, n_best=5, alternatives=5)  # type: ignore[attr-defined]
        attendgen.report({"shapes": results}, page, images=[image], title="Attention of shapes")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={WINDOW[0]},{WINDOW[1]}", "--virtual-time-budget=5000", "--hide-scrollbars"]
        command += [f"--screenshot={folder}/page.png", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        Image.open(f"{folder}/page.png").convert("RGB").save(options.out, optimize=True)
    print(f"screenshot: {options.out}")


def draw_image() -> Image.Image:
    """Draw a small red circle left of a large blue triangle."""
    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), (235, 235, 235))
    canvas = ImageDraw.Draw(image)
    for shape, color, (x, y), radius in SHAPES:
        draw_shape(canvas, shape, color, (x * SCALE, y * SCALE), radius * SCALE)
    return image


if __name__ == "__main__":
    main()
