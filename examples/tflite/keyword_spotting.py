"""Name the word (here: the tone) in a recording: a quantised audio classifier written for TFLite, on a PCM device.

    python keyword_spotting.py --wav yes.wav --model_file model.pcmi --label_file labels.txt

The features are the square roots of the energies in bands of equal width, averaged over the recording; the model's
details say how they are quantised. With TFLite's own interpreter the import is ``import ai_edge_litert.interpreter as
tflite``, and nothing else differs.
"""

import argparse
import wave

import numpy as np
import pcmedge.tflite as tflite

FRAME = 512


def read_wav(path):
    """Samples of a 16-bit mono recording, -1..1."""
    with wave.open(path, "rb") as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            raise SystemExit(f"{path}: expected 16 bits, one channel")
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def band_energies(samples, bands):
    """Mean amplitude of each band, scaled to about 0..4."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME) * np.hanning(FRAME)
    spectrum = np.abs(np.fft.rfft(frames, axis=1))[:, 1:] / FRAME
    return np.stack([part.sum(axis=1).mean() for part in np.array_split(spectrum, bands, axis=1)]) * 16


def main():
    parser = argparse.ArgumentParser(description="Name the word in a recording.")
    parser.add_argument("--wav", required=True)
    parser.add_argument("--model_file", required=True)
    parser.add_argument("--label_file", required=True)
    args = parser.parse_args()
    with open(args.label_file) as file:
        labels = [line.strip() for line in file]

    with open(args.model_file, "rb") as file:
        interpreter = tflite.Interpreter(model_content=file.read())
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    features = band_energies(read_wav(args.wav), int(inputs["shape"][-1]))[np.newaxis]
    if inputs["dtype"] == np.int8:
        scale, zero_point = inputs["quantization"]
        features = np.clip(np.round(features / scale) + zero_point, -128, 127)
    interpreter.set_tensor(inputs["index"], features.astype(inputs["dtype"]))
    interpreter.invoke()

    scores = interpreter.get_tensor(outputs["index"])[0]
    if outputs["dtype"] == np.int8:
        parameters = outputs["quantization_parameters"]
        scores = (scores.astype(np.float32) - parameters["zero_points"][0]) * parameters["scales"][0]
    best = int(np.argmax(scores))
    print(f"{labels[best]} {scores[best]:.3f}")


if __name__ == "__main__":
    main()
