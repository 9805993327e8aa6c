// tfjs PoseNet's decodeSinglePose over maps that lie in memory as tensors: see ../tfjs_node.py.
// node decode.js FILE SETS H W K STRIDE: FILE holds, for each set, float32 scores (H, W, K), then offsets (H, W, 2K).
// Says "ready", then answers each line of stdin with one of JSON: a set's number with its pose, "time N" with the
// seconds of N decodes, the sets in turn. Ends with its stdin.
'use strict';
const fs = require('fs');
const readline = require('readline');
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
const {decodeSinglePose} = require('@tensorflow-models/posenet');
tf.enableProdMode();  // no checks, no advertisement

const WARM_UP_SECONDS = 0.5;  // V8 compiles what runs often

async function main() {
  const [file, ...numbers] = process.argv.slice(2);
  const [count, H, W, K, stride] = numbers.map(Number);
  const bytes = fs.readFileSync(file);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  await tf.ready();

  let at = 0;
  const tensor = (channels) => tf.tensor3d(values.slice(at, at += H * W * channels), [H, W, channels]);
  const sets = Array.from({length: count}, () => [tensor(K), tensor(2 * K)]);
  const decode = (i) => decodeSinglePose(...sets[i % count], stride);

  async function times(rounds) {
    const start = performance.now();
    for (let i = 0; performance.now() - start < 1e3 * WARM_UP_SECONDS; i++) await decode(i);
    const seconds = [];
    for (let i = 0; i < rounds; i++) {
      const before = process.hrtime.bigint();
      await decode(i);
      seconds.push(Number(process.hrtime.bigint() - before) / 1e9);
    }
    return seconds;
  }

  console.log('ready');
  for await (const line of readline.createInterface({input: process.stdin})) {
    const [word, rounds] = line.split(' ');
    console.log(JSON.stringify(word === 'time' ? await times(Number(rounds)) : await decode(Number(word))));
  }
}

main();
