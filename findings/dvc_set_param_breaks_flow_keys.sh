#!/bin/sh
# dvc 3.67.1 with ruamel.yaml 0.19.1. `dvc exp run -S` and dvc.utils.hydra.apply_overrides rewrite
# params.yaml by ruamel.yaml, which folds flow mappings at eighty columns, also inside a plain key that
# holds a space, and drops the quotation marks that kept such a key together. A key over two lines is
# not YAML, so that one -S of another parameter makes a valid params.yaml unreadable, for dvc itself,
# too. Block mappings are safe.
#
# Output seen:
#   before: four images
#   after:  ParserError while parsing a flow mapping
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q dvc==3.67.1 ruamel.yaml==0.19.1 pyyaml==6.0.3 hydra-core==1.3.2
cd "$folder"
cat > params.yaml <<'Y'
lr: 0.1
images: {"denoising of photographs": 3, "a filled hole": 3, "a blur of two": 3,
         "four times super resolution": 3}
Y
"$folder/env/bin/python" - <<'P'
from pathlib import Path

import yaml
from dvc.utils.hydra import apply_overrides

path = Path("params.yaml")
assert len(yaml.safe_load(path.read_text())["images"]) == 4
print("before: four images")
apply_overrides(path, ["lr=0.2"])
try:
    yaml.safe_load(path.read_text())
except yaml.YAMLError as error:
    print("after: ", type(error).__name__, str(error).splitlines()[0])
else:
    raise SystemExit("the behaviour has changed:\n" + path.read_text())
P
