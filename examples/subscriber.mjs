// The newest pose of one actor: npm install zeromq @msgpack/msgpack; node subscriber.mjs NAME [tcp://HOST:5751]
import { decode } from "@msgpack/msgpack";
import { Subscriber } from "zeromq";

const [actor, endpoint = "tcp://127.0.0.1:5751"] = process.argv.slice(2);
const socket = new Subscriber({ conflate: true }); // the newest only
socket.subscribe(`pose.${actor}\0`);
socket.connect(endpoint);
for await (const [message] of socket) {
  const pose = decode(message.subarray(message.indexOf(0) + 1), { useBigInt64: true });
  const positions = new Float32Array(new Uint8Array(pose.positions).buffer); // copied: it lies at any offset
  const head = positions.subarray(15 * 3, 16 * 3); // joint 15 of 24 [m]
  console.log(pose.status, (Number(pose.t_ns) / 1e9).toFixed(3), "s  head", ...Array.from(head, (v) => v.toFixed(3)));
}
