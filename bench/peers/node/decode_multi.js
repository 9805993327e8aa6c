// tfjs PoseNet's decodeMultiplePoses over maps that lie in memory: see ../tfjs_multi.py.
// node decode_multi.js FILE H W STRIDE MAX_POSES THRESHOLD RADIUS: FILE holds float32 scores (H, W, 17), offsets (34),
// displacements forward (32) and backward (32). Warms up, says "ready", then answers each line of stdin with one of JSON:
// "poses" with the poses, "time" with the seconds of one decode. Ends with its stdin.
'use strict';
const fs = require('fs');
const readline = require('readline');
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
const {decodeMultiplePoses} = require('@tensorflow-models/posenet');
tf.enableProdMode();

const WARM_UP_SECONDS = 0.5;  // V8 compiles what runs often

async function main() {
  const [file, ...numbers] = process.argv.slice(2);
  const [H, W, stride, most, threshold, radius] = numbers.map(Number);
  const bytes = fs.readFileSync(file);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  await tf.ready();
  let at = 0;
  const buffers = [17, 34, 32, 32].map((n) => tf.buffer([H, W, n], 'float32', values.slice(at, at += H * W * n)));
  const decode = () => decodeMultiplePoses(...buffers, stride, most, threshold, radius);

  async function seconds() {
    const before = process.hrtime.bigint();
    await decode();
    return Number(process.hrtime.bigint() - before) / 1e9;
  }

  const start = performance.now();
  while (performance.now() - start < 1e3 * WARM_UP_SECONDS) await decode();
  console.log('ready');
  for await (const line of readline.createInterface({input: process.stdin})) {
    console.log(JSON.stringify(line === 'time' ? await seconds() : await decode()));
  }
}

main();
