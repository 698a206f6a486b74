"""Say what is on a picture: an image classifier written for TFLite, run on a PCM device.

    python label_image.py --image cat.png --model_file model.pcmi --label_file labels.txt

A .tflite file is compiled for the chip first, which takes typical inputs:

    python label_image.py --image cat.png --model_file model.tflite --calibration samples.npy --label_file labels.txt

With TFLite's own interpreter, which knows no calibration, the import is ``from ai_edge_litert.interpreter import
Interpreter``, and nothing else differs. Needs Pillow.
"""

import argparse
import time

import numpy as np
from pcmedge.tflite import Interpreter
from PIL import Image


def load_labels(path):
    with open(path) as file:
        return [line.strip() for line in file]


def main():
    parser = argparse.ArgumentParser(description="Say what is on a picture.")
    parser.add_argument("-i", "--image", required=True, help="picture to classify")
    parser.add_argument("-m", "--model_file", required=True, help="model to run")
    parser.add_argument("-l", "--label_file", required=True, help="names of the classes, one a line")
    parser.add_argument("--input_mean", type=float, default=127.5)
    parser.add_argument("--input_std", type=float, default=127.5)
    parser.add_argument("--num_threads", type=int, default=None)
    parser.add_argument("-c", "--calibration", help="typical inputs of a .tflite model, .npy, first axis the batch")
    parser.add_argument("--cache", help="folder that keeps what was compiled")
    args = parser.parse_args()

    compiling = {}
    if args.calibration:
        compiling = {"calibration": np.load(args.calibration), "cache": args.cache}
    interpreter = Interpreter(model_path=args.model_file, num_threads=args.num_threads, **compiling)
    interpreter.allocate_tensors()
    input_details = interpreter.get_input_details()
    output_details = interpreter.get_output_details()

    # Batch x height x width x colours.
    floating_model = input_details[0]["dtype"] == np.float32
    height, width = input_details[0]["shape"][1], input_details[0]["shape"][2]
    picture = Image.open(args.image).convert("RGB").resize((width, height))
    input_data = np.expand_dims(picture, axis=0)
    if floating_model:
        input_data = (np.float32(input_data) - args.input_mean) / args.input_std

    interpreter.set_tensor(input_details[0]["index"], input_data)
    start_s = time.perf_counter()
    interpreter.invoke()
    duration_s = time.perf_counter() - start_s

    output_data = interpreter.get_tensor(output_details[0]["index"])
    results = np.squeeze(output_data)
    if not floating_model:
        scale, zero_point = output_details[0]["quantization"]
        results = scale * (results.astype(np.float32) - zero_point)
    labels = load_labels(args.label_file)
    for index in results.argsort()[-5:][::-1]:
        print(f"{results[index]:08.6f}: {labels[index]}")
    print(f"time: {duration_s * 1000:.3f} ms")


if __name__ == "__main__":
    main()
