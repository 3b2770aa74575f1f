#!/bin/sh
# Every stage of train/ on the committed sample, on CPU. PYTHON chooses the interpreter.
cd "$(dirname "$0")" && exec "${PYTHON:-python3}" smoke.py
