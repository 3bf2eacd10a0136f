"use strict";
// `reconnecting-websocket` over `ws`. A browser's WebSocket cannot send pings, so this client cannot
// either.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
const WebSocket = require("ws");
const ReconnectingWebSocket = require("reconnecting-websocket");
const course = require("./driver.js");

const socket = new ReconnectingWebSocket(course.url, [], {
  WebSocket,
  connectionTimeout: course.connect,
  minReconnectionDelay: course.backoff,
  maxReconnectionDelay: course.backoff * 8,
  reconnectionDelayGrowFactor: 2,
  minUptime: 5000,
});
let started = false;
socket.addEventListener("open", () => {
  course.connected();
  if (!started) {
    started = true;
    course.start((text) => socket.send(text));
  }
  course.hold();
});
socket.addEventListener("message", (event) => course.message(event.data));
socket.addEventListener("close", (event) => course.say("disconnected", event.code));
socket.addEventListener("error", (event) => course.say("error", event.message));
