"use strict";
// `phoenix`'s Socket over `ws`: its heartbeat is a message, and it waits for the answer until the next
// heartbeat.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
const WebSocket = require("ws");
global.WebSocket = WebSocket;
const course = require("./driver.js");
const { Socket } = require("phoenix");

const socket = new Socket(course.url, {
  transport: WebSocket,
  timeout: course.connect,
  heartbeatIntervalMs: course.ping,
  // Only its heartbeat is a Phoenix message; the server's messages and ours are not.
  decode: (text, callback) => {
    const parsed = JSON.parse(text);
    if (Array.isArray(parsed)) {
      const [join_ref, ref, topic, event, payload] = parsed;
      callback({ join_ref, ref, topic, event, payload });
    } else callback({ join_ref: null, ref: null, topic: "course", event: "say", payload: text });
  },
  encode: ({ join_ref, ref, topic, event, payload }, callback) =>
    callback(topic === "course" ? payload : JSON.stringify([join_ref ?? null, ref, topic, event, payload])),
  reconnectAfterMs: (tries) => Math.min(course.backoff * 2 ** (tries - 1), course.backoff * 8),
});
let started = false;
socket.onOpen(() => {
  course.connected();
  if (!started) {
    started = true;
    course.start((text) => socket.push({ topic: "course", event: "say", payload: text, ref: "1" }));
  }
});
socket.onMessage(({ topic, payload }) => {
  if (topic === "course") course.message(payload);
  course.hold();
});
socket.onClose((event) => course.say("disconnected", event && event.code));
socket.onError((error) => course.say("error", error && error.message));
socket.connect();
