// `ws` on Node, as the README of `ws` shows it: an HTTP server beside it, "server broadcast" for each room, and its way to find
// broken connections, a ping every 30 s. `perMessageDeflate` is off, its default.
import { createServer } from 'node:http';
import WebSocket, { WebSocketServer } from 'ws';

const rooms = new Map();
const sockets = new WebSocketServer({ noServer: true });

const server = createServer((request, response) => {
  if (request.method !== 'POST') {
    response.writeHead(405).end();
    return;
  }
  const room = rooms.get(request.url.slice('/pub/'.length));
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const message = Buffer.concat(chunks);
    for (const member of room ?? []) {
      if (member.readyState === WebSocket.OPEN) member.send(message, { binary: false });
    }
    response.writeHead(204).end();
  });
});

server.on('upgrade', (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (member) => {
    const name = request.url.slice('/sub/'.length);
    let room = rooms.get(name);
    if (!room) rooms.set(name, (room = new Set()));
    room.add(member);
    member.isAlive = true;
    member.on('error', console.error);
    member.on('pong', () => (member.isAlive = true));
    member.on('close', () => {
      room.delete(member);
      if (room.size === 0 && rooms.get(name) === room) rooms.delete(name);
    });
  });
});

setInterval(() => {
  for (const member of [...rooms.values()].flatMap((room) => [...room])) {
    if (!member.isAlive) {
      member.terminate();
      continue;
    }
    member.isAlive = false;
    member.ping();
  }
}, 30_000);

server.listen(Number(process.argv[2]), '127.0.0.1');
