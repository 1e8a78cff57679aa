const http = require("node:http");

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/plain");
  response.end(`hello from process ${process.pid}\n`);
});

server.listen(process.env.PORT || 3000, "127.0.0.1");
