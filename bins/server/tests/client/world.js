// A server, a clock and chance for fanfare.js, all in the hands of a scenario. What the module takes from the browser is
// replaced before it is used: nothing here waits for real time.

const real = { setTimeout: globalThis.setTimeout.bind(globalThis) };

/** Lets everything run that is ready to. */
const settle = () => new Promise((resolve) => real.setTimeout(resolve, 0));

const TASK = '550e8400-e29b-41d4-a716-446655440000';
const OTHER = '550e8400-e29b-41d4-a716-446655440001';
const ROOM = `task:${TASK}`;

class FakeSocket extends EventTarget {
  constructor(world, url, protocols) {
    super();
    Object.assign(this, { world, url: new URL(url), protocols, readyState: 0, sent: [], closedWith: null });
  }

  send(text) { this.sent.push(JSON.parse(text)); }

  close(code = 1005) {
    this.readyState = 2;
    this.closedWith = code;
  }
}

class World {
  constructor() {
    this.now = Date.parse('2026-01-01T00:00:00Z');
    this.timers = new Map();
    this.timer = 0;
    this.sockets = [];
    this.chance = 0.5;
    this.states = [];
    this.events = [];
    this.hidden = false;
    this.listeners = [];
    for (const target of [globalThis, document]) {
      target.addEventListener = (...what) => {
        this.listeners.push(what[2]?.signal);
        return EventTarget.prototype.addEventListener.apply(target, what);
      };
    }
    const world = this;
    globalThis.WebSocket = function (url, protocols) {
      const socket = new FakeSocket(world, url, protocols);
      world.sockets.push(socket);
      return socket;
    };
    globalThis.setTimeout = (step, ms = 0) => {
      this.timers.set(++this.timer, { step, at: this.now + ms });
      return this.timer;
    };
    globalThis.clearTimeout = (id) => void this.timers.delete(id);
    Date.now = () => this.now;
    Math.random = () => this.chance;
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => this.hidden });
  }

  /** A client whose states and events are recorded. */
  connect(options = {}) {
    this.client = connect({ url: 'https://events.test', token: 'token', ...options });
    this.client.on('state', (state) => this.states.push(state));
    this.client.on('*', (event) => this.events.push(event));
    return this.client;
  }

  /** Listeners on what outlives a client. */
  listening() { return this.listeners.filter((signal) => !signal?.aborted).length; }

  get socket() { return this.sockets.at(-1); }
  get state() { return this.client.state.state; }
  /** What the client said on this socket, without the token and the refs. */
  said(socket = this.socket) { return socket.sent.map(({ ref, ...message }) => message); }
  last(op, socket = this.socket) { return socket.sent.findLast((message) => message.op === op); }

  async open(socket = this.socket) {
    socket.readyState = 1;
    socket.onopen({});
    await settle();
  }

  async frame(frame, socket = this.socket) {
    socket.onmessage({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    await settle();
  }

  say(type, data) { return this.frame({ type: `system:${type}`, data }); }

  /** Opens, and lets the client in: into the user's room, at `seq`. */
  async welcome({ seq = 0, epoch = 'e', ...more } = {}) {
    await settle();
    await this.open();
    const rooms = { 'user:7': { epoch, seq, ...more } };
    await this.say('welcome', { conn: 'c', user: 'user:7', device: null, heartbeat_ms: 25_000, max_message_bytes: 65_536, rooms, inbox: { unread: 2 } });
  }

  /** Answers the join of a room that the client asked for last. */
  async joined({ room = ROOM, epoch = 'e', seq = 0, ...more } = {}) {
    const { ref } = this.socket.sent.findLast((message) => message.op === 'join' && message.room === room);
    await this.say('joined', { room, epoch, seq, ...more, state: { status: 'unknown' } });
    await this.reply(ref, { room, epoch, seq });
  }

  reply(ref, result = {}) { return this.say('reply', { ref, ok: true, ...result }); }
  refuse(ref, code) { return this.say('reply', { ref, ok: false, error: { code, message: code } }); }

  event(id, rooms, more = {}) {
    return this.frame({ type: 'chat:message', id, at: new Date(this.now).toISOString(), rooms, data: { text: id }, ...more });
  }

  async drop(code = 1006, reason = '', socket = this.socket) {
    socket.readyState = 3;
    socket.onclose({ code, reason });
    await settle();
  }

  async goodbye(code, retry, after) {
    await this.say('goodbye', { code, reason: 'words', retry, retry_after_ms: after });
    await this.drop(code, 'words');
  }

  /** Time passes; what is due on its way runs in its order. */
  async advance(ms) {
    const until = this.now + ms;
    for (;;) {
      const [id, due] = [...this.timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!due) break;
      this.timers.delete(id);
      this.now = Math.max(this.now, due.at);
      due.step();
      await settle();
    }
    this.now = until;
    await settle();
  }

  ids() { return this.events.map(({ id }) => id); }
}

const show = (value) => JSON.stringify(value);
function equal(actual, expected, what = '') {
  if (show(actual) !== show(expected)) throw new Error(`${what} is ${show(actual)}, expected ${show(expected)}`);
}
async function fails(promise, code) {
  let result;
  try { result = await promise; } catch (error) { return equal(error.code, code, 'the code'); }
  throw new Error(`expected ${code}, got ${show(result)}`);
}
/** What a promise has come to by now. */
async function now(promise) {
  let state = 'pending';
  promise.then(() => { state = 'done'; }, (error) => { state = error.code; });
  await settle();
  return state;
}
