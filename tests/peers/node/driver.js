"use strict";
// The command line, JSON lines and counts that all clients of the torture course share, as in
// src/driver.rs.

const args = {};
for (let i = 2; i < process.argv.length; i += 2) args[process.argv[i].slice(2)] = process.argv[i + 1];
const number = (name, fallback) => Number(args[name] ?? fallback);
const [act, argument] = (args.act ?? "idle").split("=");

const counts = { messages: 0, disorder: 0, accepted: 0, refused: 0, returned: 0 };
let next = 0;

const course = {
  url: args.url,
  ping: number("ping", 2000),
  death: number("death", 4000),
  connect: number("connect", 3000),
  backoff: number("backoff", 500),
  say(event, detail = "") {
    console.log(JSON.stringify({ t: Date.now(), event, detail: String(detail) }));
  },
  connected() {
    next = 0;
    course.say("connected");
  },
  message(data) {
    counts.messages += 1;
    const digits = /^\{"n":(\d+)/.exec(typeof data === "string" ? data.slice(0, 40) : "");
    if (digits) {
      if (Number(digits[1]) !== next) counts.disorder += 1;
      next = Number(digits[1]) + 1;
    }
  },
  // Calls send(text) as the act requires. It throws, or returns false, if the client refuses.
  start(send) {
    const [count, size, pause] =
      { write: [Infinity, 100, 1500], flood: [64, 1 << 20, 0], upload: [1, Number(argument), 0], burst: [Number(argument), 1000, 0],
        rate: [Infinity, 100, 1000 / Number(argument)] }[act] ?? [0, 0, 0];
    const one = (n) => {
      try {
        counts[send(`${n} ` + ".".repeat(size)) === false ? "refused" : "accepted"] += 1;
      } catch {
        counts.refused += 1;
      }
    };
    if (pause === 0) for (let n = 0; n < count; n++) one(n);
    else {
      let n = 0;
      setInterval(() => one(n++), pause);
    }
  },
  // An application that takes nothing. In JavaScript that is a busy loop, once.
  hold() {
    if (act !== "hold" || course.held) return;
    course.held = true;
    const end = Date.now() + Number(argument);
    while (Date.now() < end);
  },
};

process.stdin.resume();
process.stdin.on("end", () => {
  console.log(JSON.stringify({ event: "summary", ...counts }));
  process.exit(0);
});

module.exports = course;
