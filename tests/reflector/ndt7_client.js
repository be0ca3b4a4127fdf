// M-Lab's own NDT7 client under node: `node ndt7_client.js MODULES HOST:PORT` prints what it measured as JSON.
// It was written for browsers; a thread of node stands in for the Web Worker, the package `ws` for the websocket.
'use strict';
const path = require('path');
const {Worker: Thread} = require('worker_threads');

const [modules, server] = process.argv.slice(2);
const ndt7 = path.join(modules, '@m-lab', 'ndt7', 'src');

const START = `
  const {parentPort, workerData} = require('worker_threads');
  globalThis.self = globalThis;
  globalThis.WebSocket = require(workerData.ws);
  globalThis.postMessage = (data) => parentPort.postMessage(data);
  require(workerData.file);
  parentPort.on('message', (data) => self.onmessage({data}));
`;

globalThis.Worker = class {
  constructor(file) {
    const workerData = {file: path.join(ndt7, file), ws: path.join(modules, 'ws')};
    this.thread = new Thread(START, {eval: true, workerData});
    this.thread.on('message', (data) => this.onmessage({data}));
  }
  postMessage(data) {
    this.thread.postMessage(data);
  }
  terminate() {
    this.thread.terminate();
  }
};

const found = {errors: [], fromServer: {download: 0, upload: 0}};
const count = (test) => (measurement) => {
  if (measurement.Source === 'server') found.fromServer[test] += 1;
};
const config = {protocol: 'ws', server, userAcceptedDataPolicy: true};
const callbacks = {
  error: (message) => found.errors.push(String(message)),
  downloadMeasurement: count('download'),
  downloadComplete: (result) => (found.download = result),
  uploadMeasurement: count('upload'),
  uploadComplete: (result) => (found.upload = result),
};
require(path.join(ndt7, 'ndt7.js')).test(config, callbacks).then((code) => {
  process.stdout.write(JSON.stringify({code, ...found}) + '\n');
  process.exit(0);
});
