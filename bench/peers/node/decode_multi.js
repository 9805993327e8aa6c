// tfjs PoseNet's decodeMultiplePoses: see ../../bench_posenet_multi.py.
// node decode_multi.js FILE H W STRIDE MAX_POSES THRESHOLD RADIUS ROUNDS: FILE holds float32 scores (H, W, 17), offsets (34),
// displacements forward (32) and backward (32). Prints JSON: the poses, and the seconds of each of ROUNDS decodes.
'use strict';
const fs = require('fs');
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
const {decodeMultiplePoses} = require('@tensorflow-models/posenet');
tf.enableProdMode();

const WARM_UP_SECONDS = 0.5;  // V8 compiles what runs often

async function main() {
  const [file, ...numbers] = process.argv.slice(2);
  const [H, W, stride, most, threshold, radius, rounds] = numbers.map(Number);
  const bytes = fs.readFileSync(file);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  await tf.ready();
  let at = 0;
  const buffers = [17, 34, 32, 32].map((n) => tf.buffer([H, W, n], 'float32', values.slice(at, at += H * W * n)));
  const decode = () => decodeMultiplePoses(...buffers, stride, most, threshold, radius);

  const start = performance.now();
  while (performance.now() - start < 1e3 * WARM_UP_SECONDS) await decode();
  const seconds = [];
  for (let i = 0; i < rounds; i++) {
    const before = process.hrtime.bigint();
    await decode();
    seconds.push(Number(process.hrtime.bigint() - before) / 1e9);
  }
  console.log(JSON.stringify({poses: await decode(), seconds}));
}

main();
