"""The shipped folder: a trained one with another autoencoder, in f16."""
import argparse
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from sampling import write_folder

parser = argparse.ArgumentParser()
parser.add_argument("--folder", required=True)
parser.add_argument("--vae", required=True)
parser.add_argument("--out", required=True)
args = parser.parse_args()
folder = Path(args.folder)
unet = UNet2DConditionModel.from_pretrained(folder / "unet").float()
text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
write_folder(args.out, unet, text_encoder, AutoencoderKL.from_pretrained(args.vae), folder / "tokenizer")
print(sum(file.stat().st_size for file in Path(args.out).rglob("*") if file.is_file()), "bytes")
