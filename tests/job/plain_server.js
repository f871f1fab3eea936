// A tool and grader server as people write it for hosted Agent RFT, on Express or on Node's own http.
// Says its port, then every request that reaches it as a line of JSON.
const WORDS = { apple: "a fruit", colour: "red" };

function note(req, body) {
  console.log(JSON.stringify({ method: req.method, path: req.url, headers: req.headers, body }));
}

function call(body) {
  const { word } = JSON.parse(body.arguments);
  return { type: "function_call_output", call_id: body.call_id, output: WORDS[word].toString() };
}

function grade(body) {
  return { score: body.sample.output_text === body.item.answer ? 1 : 0 };
}

function onExpress() {
  const express = require("express");
  const app = express();
  app.use(express.text({ type: "*/*" }));
  app.use((req, res, next) => {
    note(req, req.body || "");
    req.body = req.body ? JSON.parse(req.body) : {};
    next();
  });
  app.post("/tool", (req, res) => res.json(call(req.body)));
  app.post("/grade", (req, res) => res.json(grade(req.body)));
  app.use((error, req, res, next) => res.status(500).send(error.message));
  return app.listen(0, "127.0.0.1");
}

function onNode() {
  const http = require("http");
  const server = http.createServer((req, res) => {
    let text = "";
    req.on("data", (chunk) => (text += chunk));
    req.on("end", () => {
      note(req, text);
      try {
        const body = JSON.parse(text);
        res.setHeader("Content-Type", "application/json");
        res.end(JSON.stringify(req.url === "/grade" ? grade(body) : call(body)));
      } catch (error) {
        res.statusCode = 500;
        res.end(error.message);
      }
    });
  });
  return server.listen(0, "127.0.0.1");
}

const server = process.argv[2] === "express" ? onExpress() : onNode();
server.on("listening", () => console.log(server.address().port));
