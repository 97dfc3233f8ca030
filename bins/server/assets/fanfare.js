/**
 * Fanfare's browser client: events of rooms over one WebSocket that comes back by itself.
 *
 * It speaks `fanfare.v1`, keeps the position of every room, resumes from there after a lost connection, hands out each
 * event once, and says what is missing. An ES module without dependencies; how to use it: docs/browser-client.md.
 *
 * @example
 * import { connect } from '/fanfare.js';
 * const fanfare = connect({ url: 'https://events.example.com', getToken: () => fetch('/token').then((r) => r.text()) });
 * fanfare.on('task:*', (event) => console.log(event.type, event.data));
 * await fanfare.join('550e8400-e29b-41d4-a716-446655440000');
 * await fanfare.send('chat:message', { text: 'hello' });
 */

/**
 * @typedef {{epoch: string, seq: number}} Position Where a reader is in a room's log.
 * @typedef {Object<string, Position>} Positions By room: `{'task:550e…': {epoch: 'k3J9', seq: 18}}`.
 *
 * @typedef {object} FanfareEvent What came through a room, or (`system:*`, without `rooms`) from the server itself.
 * @property {string} type `task:status`, `chat:message`, `system:gap`, …
 * @property {any} data What the publisher sent.
 * @property {string} [id] The publisher's id of the event, or the server's.
 * @property {string} [at] When the server took it: RFC 3339, UTC.
 * @property {string} [from] `user:7` where a client sent it.
 * @property {Object<string, number>} [rooms] The rooms through which it came now and not before, with its number in each.
 * @property {boolean} [ephemeral] Not kept by the server; its numbers are the rooms' heads.
 * @property {number} [unread] The user's unread notifications after this one.
 *
 * @typedef {object} RoomInfo What the server says of a room when it is joined.
 * @property {string} room
 * @property {string} epoch
 * @property {number} seq The last event's number at that moment; what comes live has higher ones.
 * @property {boolean} [recovered] Absent where no position was named; false where something is missing (a `system:gap` says what).
 * @property {{status: string, at?: string, last?: any}} [state] A task's snapshot, of the same moment as `seq`.
 *
 * @typedef {object} State
 * @property {'connecting'|'live'|'waiting'|'closed'} state
 * @property {number} [code] The close code that led here.
 * @property {string} [reason] In words.
 * @property {number} [retryAt] While `waiting`: when the next attempt is due, as `Date.now()` counts.
 * @property {number} [attempt] How many attempts failed in a row.
 *
 * @typedef {'first'|'expiring'|'expired'|'refused'} Why Why a token is asked for.
 *
 * @typedef {object} Options
 * @property {string|URL} [url] The server, `http(s):` or `ws(s):`, with the path under which it is mounted. Default: where the page came from.
 * @property {string} [token] A JWT. Once it has run out the client closes; with `getToken` it asks for the next one.
 * @property {(why: Why) => string|Promise<string>} [getToken] Asked before the first connection, a minute before a token ends, and after one was refused.
 * @property {string} [task] A task to join, and the default room of `send`.
 * @property {string} [device] This device's name, 1 to 64 of `A-Za-z0-9._-`.
 * @property {Positions} [since] Where to resume: what `positions` gave.
 * @property {number} [maxPending] Sends, reads and acknowledgements that may wait for an answer. Default 100.
 * @property {number} [sendTimeoutMs] How long a send may take, reconnecting included. Default 15,000.
 * @property {number} [connectTimeoutMs] How long an attempt may take, the token included. Default 15,000.
 * @property {number} [backoffMs] Upper bound of the first wait; it doubles with each failure. Default 500.
 * @property {number} [backoffMaxMs] Upper bound of all waits. Default 30,000.
 */

const DEFAULTS = { maxPending: 100, sendTimeoutMs: 15_000, connectTimeoutMs: 15_000, backoffMs: 500, backoffMaxMs: 30_000 };
/** The answer to a ping must come within this time. */
const PONG_MS = 10_000;
/** A connection that lived this long was good: the next failure is a first one again. */
const STABLE_MS = 10_000;
const HEARTBEAT_MS = 25_000;
/** Messages at once and in a second: less than the server takes by default (100 and 50), so that none is refused. */
const PACE = { burst: 80, perSecond: 40 };
/** Events whose ids are remembered, and for how long an id is one event: as long as the server says so. */
const SEEN_MAX = 1_000;
const SEEN_MS = 24 * 3_600_000;

const CLOSE_WORDS = {
  1006: 'the connection was lost', 4001: 'the server is restarting', 4005: 'the token expired', 4008: 'this client read too slowly',
  4012: 'the server heard nothing', 4013: 'too many messages', 4014: 'the server could not read its store', 4500: 'the token was refused',
  4501: 'the server did not understand', 4502: 'no token came in time', 4503: 'disconnected by the back end', 4504: 'too many connections of this user',
  4507: 'the token does not allow this', 4509: 'too many errors',
};

/**
 * Why a request failed. `code` is stable: the server's, or `bad_request`, `bad_pattern`, `closed`, `connection_lost`, `left`,
 * `no_room`, `no_token`, `timeout`, `too_large`, `too_many_pending`.
 */
export class FanfareError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = 'FanfareError';
    this.code = code;
  }
}

/** Opens a connection, and keeps it open until {@link Fanfare#close}. @param {Options} options */
export function connect(options = {}) {
  return new Fanfare(options);
}

/** One connection to Fanfare, however often the socket under it is replaced. */
export class Fanfare {
  #options;
  #base;
  #token;
  /** Whether the token at hand was good once, so that a refusal means that it ran out. */
  #tokenProven = false;
  /** @type {Why} What the next token is asked for with. */
  #why = 'first';
  /** The default room of `send`. */
  #home = null;
  /** @type {State} */
  #state = { state: 'closed' };
  #welcome = null;
  #unread = null;
  #socket = null;
  #goodbye = null;
  #attempt = 0;
  #liveAt = 0;
  #heardAt = 0;
  #pinging = false;
  /** Timers by purpose, so that all can be stopped at once. */
  #timers = { retry: 0, connect: 0, idle: 0, pong: 0, pace: 0 };
  /** A token bucket: messages that may be sent now, as of `at`. */
  #pace = { ...PACE, credit: PACE.burst, at: 0 };
  #ref = 0;
  /** Requests without an answer, by ref, in the order in which they are sent. */
  #pending = new Map();
  /** Wanted rooms: `{room, position, joined, oldest, info, ready}`. The user's own is among them once known. */
  #rooms = new Map();
  /** Rooms that were asked to be left, with how many answers are awaited: what comes of them until then is of the past. */
  #leaving = new Map();
  /** Events by id, with the rooms through which they came: a replay brings through one what came through another. */
  #seen = new Map();
  /** `{pattern, room, handler}`, in the order in which they came. */
  #handlers = new Set();
  #hints = new AbortController();

  /** @param {Options} options */
  constructor(options) {
    this.#options = { ...DEFAULTS, ...options };
    if (!options.token && !options.getToken) throw new FanfareError('no_token', 'connect needs `token` or `getToken`');
    this.#base = new URL(options.url ?? '/', globalThis.location?.href);
    this.#base.protocol = this.#base.protocol.replace('http', 'ws');
    if (!this.#base.pathname.endsWith('/')) this.#base.pathname += '/';
    this.#token = options.token ?? null;
    this.#tokenProven = Boolean(options.token);
    for (const [room, position] of Object.entries(options.since ?? {})) this.#want(room, { ...position });
    if (options.task) this.join(options.task).catch(() => {}); // What a refusal leads to, `system:left` says.
    if (options.task) this.#home = roomOf(options.task);
    this.reconnect();
  }

  /** Where the connection stands. @returns {State} */
  get state() { return this.#state; }

  /** The user that the token names, `user:7`, or null before the first welcome. @returns {string|null} */
  get user() { return this.#welcome?.user ?? null; }

  /** How many notifications the user has not read, on whatever device, or null before the first welcome. @returns {number|null} */
  get unread() { return this.#unread; }

  /** The joined rooms' positions: hand them to `since` of a later `connect`. @returns {Positions} */
  get positions() {
    const known = [...this.#rooms.values()].filter(({ position }) => Number.isSafeInteger(position?.seq));
    return Object.fromEntries(known.map(({ room, position }) => [room, { ...position }]));
  }

  /**
   * Calls `handler` for events of a type (`task:status`), of a namespace (`task:*`), or for all that come through rooms
   * (`*`): each event once, through whichever of the rooms it came first. With `room` (`task:550e…`, `user:7`) for those of
   * that room, each once there. What the server says about itself is `system:*`; changes of the connection are `state`.
   * @param {string} pattern @param {(event: any) => void} handler @param {{room?: string}} [options]
   * @returns {() => void} Takes the handler off again.
   */
  on(pattern, handler, { room } = {}) {
    if (pattern !== '*' && pattern !== 'state' && !/^[a-z][a-z0-9_.-]*:([a-z0-9_.-]+|\*)$/.test(pattern)) {
      throw new FanfareError('bad_pattern', `"${pattern}" is no pattern: expected namespace:name, namespace:* or *`);
    }
    const entry = { pattern, room, handler };
    this.#handlers.add(entry);
    return () => void this.#handlers.delete(entry);
  }

  /**
   * Joins a task's room, now and after every reconnect, until {@link Fanfare#leave} or a `system:left`.
   * @param {string} task The task's id, or `task:{id}`.
   * @param {{since?: Position|'oldest'}} [options] Resume from a position; `oldest` replays everything that is kept. Of no
   *   effect where the room is wanted already.
   * @returns {Promise<RoomInfo>} Once joined, however long the connection takes. Rejected where the server refuses.
   */
  join(task, { since } = {}) {
    const room = roomOf(task);
    let entry = this.#rooms.get(room);
    if (!entry) {
      entry = this.#want(room, since === 'oldest' || !since ? null : { ...since });
      entry.oldest = since === 'oldest';
      if (this.#state.state === 'live') this.#join(entry);
    }
    return entry.joined ? Promise.resolve(entry.info) : entry.ready.promise;
  }

  /** Leaves a task's room; nothing of it is handed to handlers any more. @param {string} task */
  leave(task) {
    const entry = this.#rooms.get(roomOf(task));
    if (!entry) return;
    this.#forget(entry, new FanfareError('left', `${entry.room} was left`));
    if (this.#state.state === 'live') this.#leave(entry.room);
  }

  /**
   * Sends an event to a task's room. Repeated with the same id after a lost connection, so it is there once; an ephemeral
   * one is of its moment and not repeated.
   * @param {string} type What the token allows, by default `chat:*`.
   * @param {any} data JSON.
   * @param {{task?: string, id?: string, ephemeral?: boolean, key?: string, timeoutMs?: number}} [options]
   * @returns {Promise<{id: string, seq: number, duplicate?: boolean}>} Rejected with a {@link FanfareError}; after `timeout`
   *   it may have arrived all the same: repeat it with the same `id`.
   */
  send(type, data, { task, id = uuid(), ephemeral, key, timeoutMs = this.#options.sendTimeoutMs } = {}) {
    const room = task ? roomOf(task) : [this.#home, ...this.#rooms.keys()].find((name) => name?.startsWith('task:') && this.#rooms.has(name));
    if (!room) return Promise.reject(new FanfareError('no_room', 'no task is joined: join one or name it in `task`'));
    return this.#say({ op: 'send', room, type, data, id, ephemeral, key }, { repeat: !ephemeral, timeoutMs });
  }

  /**
   * Says that the user has read notifications; all devices are told by an `inbox:read`, and `unread` falls.
   * @param {{upTo: number, epoch?: string}|{ids: string[]}} which Up to a number in the user's room, or by the events' ids.
   *   With `epoch`, a number of another one is refused.
   * @returns {Promise<{unread: number, seq?: number}>}
   */
  read({ upTo, epoch, ids }) { return this.#say({ op: 'read', epoch, up_to: upTo, ids }); }

  /**
   * Says that this device has what came through the user's room: a later connection with the same `device` and without
   * `since` begins after that. @returns {Promise<{epoch: string, seq: number}>}
   */
  ack() {
    const { position } = this.#rooms.get(this.user) ?? {};
    if (!Number.isSafeInteger(position?.seq)) return Promise.reject(new FanfareError('connection_lost', 'there is nothing to acknowledge yet'));
    return this.#say({ op: 'ack', ...position });
  }

  /** Connects now: ends a wait, or opens again after `closed`, with the positions that were reached. */
  reconnect() {
    if (this.#state.state === 'connecting' || this.#state.state === 'live') return;
    if (this.#state.state === 'closed') this.#listenToHints();
    this.#open();
  }

  /** Closes for good. Pending sends are rejected with `closed`. */
  close() { this.#stop({ reason: 'closed by this page' }, 1000); }

  // From here on: private steps, in the order of a connection's life.

  #set(state) {
    this.#state = state;
    this.#call(({ pattern }) => pattern === 'state', state);
  }

  async #open() {
    this.#stopTimers();
    this.#goodbye = null;
    this.#set({ state: 'connecting', attempt: this.#attempt });
    const mine = (this.#socket = { close() {} });
    this.#timers.connect = setTimeout(() => this.#lost(1006, 'the server did not answer in time'), this.#options.connectTimeoutMs);
    try {
      if (!this.#token) await this.#ask(this.#why);
    } catch (error) {
      if (mine === this.#socket) this.#lost(1006, `no token: ${error?.message ?? error}`);
      return;
    }
    if (mine !== this.#socket) return;
    const socket = (this.#socket = new WebSocket(this.#address(), 'fanfare.v1'));
    const current = (step) => (event) => { if (socket === this.#socket) step(event); };
    // As the first message and not in the upgrade: a browser hides why an upgrade failed, a close code it shows.
    socket.onopen = current(() => {
      this.#pace = { ...this.#pace, credit: this.#pace.burst - 1, at: Date.now() };
      socket.send(JSON.stringify({ op: 'auth', token: this.#token }));
    });
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current(({ code, reason }) => this.#lost(code, reason));
  }

  /** Tasks are joined one by one after the welcome: one that is refused or gone does not cost the connection. */
  #address() {
    const url = new URL('v1/user/notifications', this.#base);
    const since = [...this.#rooms.values()]
      .filter(({ room, position }) => room.startsWith('user:') && Number.isSafeInteger(position?.seq))
      .map(({ room, position }) => `${room}@${position.epoch}:${position.seq}`);
    if (since.length) url.searchParams.set('since', since.join(','));
    if (this.#options.device) url.searchParams.set('device', this.#options.device);
    return url;
  }

  /** @param {Why} why */
  async #ask(why) {
    const token = await this.#options.getToken(why);
    if (typeof token !== 'string' || !token) throw new FanfareError('no_token', '`getToken` gave no token');
    this.#token = token;
    this.#tokenProven = false;
  }

  #receive(text) {
    this.#heardAt = Date.now();
    let frame = null;
    try { frame = JSON.parse(text); } catch { /* Said below. */ }
    if (typeof frame?.type !== 'string') return this.#lost(1006, 'the server sent something else than an event');
    const { type, data } = frame;
    if (type === 'system:reply') return this.#answered(data);
    if (type === 'system:welcome') return this.#welcomed(frame);
    if (type === 'system:joined') return this.#joined(data, frame);
    if (type === 'system:left') return this.#left(data, frame);
    if (type === 'system:gap') return this.#skip(data, frame);
    if (frame.rooms) return this.#arrived(frame);
    if (type === 'system:expiring') this.#refresh();
    else if (type === 'system:goodbye') this.#goodbye = data;
    this.#dispatch(frame);
  }

  #welcomed(frame) {
    clearTimeout(this.#timers.connect);
    this.#welcome = frame.data;
    this.#unread = frame.data.inbox?.unread ?? null;
    this.#tokenProven = true;
    this.#liveAt = Date.now();
    this.#watch();
    for (const [room, info] of Object.entries(frame.data.rooms ?? {})) {
      this.#seat(this.#rooms.get(room) ?? this.#want(room), { room, ...info });
    }
    this.#state = { state: 'live' };
    // Rooms first: what is sent to them must find them joined.
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const entry of [...this.#rooms.values()].filter(({ joined }) => !joined)) {
      if (entry.room.startsWith('task:')) this.#join(entry);
      else this.#rooms.delete(entry.room); // A position of another user's room.
    }
    for (const request of waiting) this.#pending.set(request.ref, request);
    this.#pump();
    this.#set(this.#state);
    this.#dispatch(frame);
  }

  #want(room, position = null) {
    const entry = { room, position, joined: false, oldest: false, info: null, ready: deferred() };
    this.#rooms.set(room, entry);
    return entry;
  }

  #join(entry) {
    const { room, position } = entry;
    const since = Number.isSafeInteger(position?.seq) ? position : undefined;
    this.#request({ op: 'join', room, since }).catch((error) => {
      // A lost connection is no refusal: after the next welcome it is asked again.
      if (['connection_lost', 'closed', 'draining'].includes(error.code) || this.#rooms.get(room) !== entry) return;
      const knewIt = entry.info !== null;
      this.#forget(entry, error);
      // Who believes to be in the room has no promise at hand that could say so.
      if (knewIt || room === this.#home) this.#dispatch({ type: 'system:left', data: { room, reason: error.code } });
    });
  }

  #leave(room) {
    this.#leaving.set(room, (this.#leaving.get(room) ?? 0) + 1);
    const done = () => {
      const left = (this.#leaving.get(room) ?? 0) - 1;
      if (left > 0) this.#leaving.set(room, left); else this.#leaving.delete(room);
    };
    this.#request({ op: 'leave', room }).then(done, done);
  }

  #joined(info, frame) {
    const entry = this.#rooms.get(info.room);
    if (!entry || entry.joined || this.#leaving.has(info.room)) return;
    if (entry.oldest && info.recovered === undefined && info.seq > 0) {
      // The epoch is known now: the log can be named from its beginning. What comes meanwhile comes again in the replay.
      entry.position = { epoch: info.epoch, seq: 0 };
      this.#leave(entry.room);
      this.#join(entry);
      return;
    }
    this.#seat(entry, info);
    this.#dispatch(frame);
  }

  #seat(entry, info) {
    const { position } = entry;
    if (info.recovered === undefined) entry.position = { epoch: info.epoch, seq: info.seq };
    // The replay follows, from our position, or from the device's cursor that only the server knows. A gap is told before it where
    // the room is not recovered: until it came, we stand where we were, so that it is told again where this connection is lost.
    else if (!position || (info.recovered && position.epoch !== info.epoch)) entry.position = { epoch: info.epoch, seq: null };
    Object.assign(entry, { joined: true, oldest: false, info });
    entry.ready.resolve(info);
  }

  #left({ room, reason }, frame) {
    const entry = this.#rooms.get(room);
    if (reason === 'asked' || !entry) return;
    this.#forget(entry, new FanfareError('left', `${room}: ${reason}`));
    this.#dispatch(frame);
  }

  #forget(entry, error) {
    this.#rooms.delete(entry.room);
    entry.ready.reject(error);
  }

  #skip({ room, epoch, to, unread }, frame) {
    const entry = this.#rooms.get(room);
    if (!entry?.joined || this.#leaving.has(room)) return;
    this.#unread = unread ?? this.#unread;
    entry.position = { epoch, seq: Number.isSafeInteger(to) ? to : null };
    this.#dispatch(frame);
  }

  #arrived(frame) {
    this.#unread = frame.unread ?? this.#unread;
    const fresh = {};
    for (const [room, seq] of Object.entries(frame.rooms)) {
      const entry = this.#rooms.get(room);
      if (!entry?.joined || this.#leaving.has(room)) continue;
      if (frame.ephemeral || this.#advance(entry, seq)) fresh[room] = seq;
    }
    const first = this.#note(frame, fresh);
    if (Object.keys(fresh).length) this.#dispatch({ ...frame, rooms: fresh }, first);
  }

  /** @returns {boolean} Whether the number is new in the room. */
  #advance({ room, position }, seq) {
    if (position.seq !== null && seq <= position.seq) return false;
    if (position.seq !== null && seq > position.seq + 1) {
      const data = { room, epoch: position.epoch, from: position.seq + 1, to: seq - 1, reason: 'unannounced' };
      this.#dispatch({ type: 'system:gap', data });
    }
    position.seq = seq;
    return true;
  }

  /** Takes from `fresh` the rooms through which this event came before. @returns {boolean} Whether it is seen for the first time. */
  #note({ id, at }, fresh) {
    const seen = this.#seen.get(id);
    const known = seen && !(Math.abs(Date.parse(at) - Date.parse(seen.at)) >= SEEN_MS);
    for (const room of Object.keys(fresh)) if (known && seen.rooms.has(room)) delete fresh[room];
    if (known) for (const room of Object.keys(fresh)) seen.rooms.add(room);
    else if (id && Object.keys(fresh).length) {
      this.#seen.delete(id);
      this.#seen.set(id, { at, rooms: new Set(Object.keys(fresh)) });
      if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.keys().next().value);
    }
    return !known;
  }

  /** To all handlers that it concerns, in their order; `first` is false where those without a room had it before. */
  #dispatch(event, first = true) {
    const { type, rooms, data } = event;
    const namespace = `${type.split(':', 1)[0]}:*`;
    this.#call(({ pattern, room }) => {
      if (room ? !(rooms ? room in rooms : data?.room === room) : !first) return false;
      return pattern === type || pattern === namespace || (pattern === '*' && rooms !== undefined);
    }, event);
  }

  #call(concerns, event) {
    for (const entry of [...this.#handlers].filter(concerns)) {
      // One handler's error is its own: the others still get the event.
      try { entry.handler(event); } catch (error) { queueMicrotask(() => { throw error; }); }
    }
  }

  /** What the page asks for, of which only so much may wait. Without `repeat` it is of its moment. */
  #say(message, { repeat = false, timeoutMs = this.#options.sendTimeoutMs } = {}) {
    if ([...this.#pending.values()].filter(({ said }) => said).length >= this.#options.maxPending) {
      return Promise.reject(new FanfareError('too_many_pending', `${this.#options.maxPending} wait for an answer already`));
    }
    if (!repeat && this.#state.state !== 'live') {
      return Promise.reject(new FanfareError('connection_lost', 'what is of its moment does not wait for a connection'));
    }
    return this.#request(message, { repeat, timeoutMs, said: true });
  }

  #request(message, { repeat = false, timeoutMs = 0, said = false } = {}) {
    if (this.#state.state === 'closed') return Promise.reject(new FanfareError('closed', 'the connection is closed'));
    const ref = ++this.#ref;
    const text = JSON.stringify({ ...message, ref });
    const max = this.#welcome?.max_message_bytes ?? 65_536;
    if (new TextEncoder().encode(text).length > max) {
      return Promise.reject(new FanfareError('too_large', `a message may have ${max} bytes`));
    }
    return new Promise((resolve, reject) => {
      const request = { ref, said, text, repeat, resolve, reject, sent: false, timer: 0 };
      if (timeoutMs) request.timer = setTimeout(() => this.#settle(ref, new FanfareError('timeout', 'no answer came in time')), timeoutMs);
      this.#pending.set(ref, request);
      this.#pump();
    });
  }

  /** Sends what waits, in its order and no faster than the server takes it. */
  #pump() {
    if (this.#state.state !== 'live' || this.#timers.pace) return;
    const { burst, perSecond, credit, at } = this.#pace;
    this.#pace.credit = Math.min(burst, credit + ((Date.now() - at) / 1_000) * perSecond);
    this.#pace.at = Date.now();
    for (const request of this.#pending.values()) {
      if (request.sent) continue;
      if (this.#pace.credit < 1) {
        this.#timers.pace = setTimeout(() => {
          this.#timers.pace = 0;
          this.#pump();
        }, Math.ceil(((1 - this.#pace.credit) / perSecond) * 1_000));
        return;
      }
      this.#pace.credit -= 1;
      request.sent = true;
      if (this.#socket.readyState === 1) this.#socket.send(request.text);
    }
  }

  #answered({ ref, ok, error, ...result }) {
    // Which message was refused is not said. Resuming asks for every room again, and repeats what has no answer.
    if (error?.code === 'rate_limited' && ref === undefined) return this.#lost(4013, '');
    this.#settle(ref, ok ? null : new FanfareError(error?.code ?? 'error', error?.message ?? 'the server refused'), result);
  }

  #settle(ref, error, result) {
    const request = this.#pending.get(ref);
    if (!request) return;
    this.#pending.delete(ref);
    clearTimeout(request.timer);
    if (error) request.reject(error); else request.resolve(result);
  }

  // Whether the other side is there: a browser does not show the server's pings, so silence is answered by a question.
  #watch() {
    clearTimeout(this.#timers.idle);
    const idleMs = this.#welcome.heartbeat_ms || HEARTBEAT_MS;
    this.#timers.idle = setTimeout(() => {
      if (Date.now() - this.#heardAt >= idleMs) this.#probe();
      this.#watch();
    }, Math.max(50, this.#heardAt + idleMs - Date.now()));
  }

  #probe() {
    if (this.#state.state !== 'live' || this.#pinging) return;
    this.#pinging = true;
    this.#timers.pong = setTimeout(() => this.#lost(1006, 'the server does not answer'), PONG_MS);
    this.#request({ op: 'ping' }).catch(() => {}).finally(() => {
      this.#pinging = false;
      clearTimeout(this.#timers.pong);
    });
  }

  /** What the browser knows of the network and of the viewer: a wait may end, a connection may be dead. */
  #listenToHints() {
    this.#hints = new AbortController();
    const { signal } = this.#hints;
    const probe = () => this.#probe();
    // A wait that the server asked for is kept.
    const again = () => { if (this.#state.state === 'waiting' && !this.#goodbye) this.#open(); else probe(); };
    globalThis.addEventListener?.('online', again, { signal });
    globalThis.addEventListener?.('offline', probe, { signal });
    globalThis.document?.addEventListener('visibilitychange', () => { if (!document.hidden) again(); }, { signal });
  }

  async #refresh() {
    if (!this.#options.getToken) return;
    try {
      await this.#ask('expiring');
      if (this.#state.state !== 'live') return;
      await this.#request({ op: 'auth', token: this.#token });
      this.#tokenProven = true;
    } catch { /* The server closes with 4005 when the old one has run out, and the next attempt asks again. */ }
  }

  /** The socket is gone, or given up: then its close is not waited for, a dead network would hold it for minutes. */
  #lost(code, said) {
    const socket = this.#socket;
    this.#socket = null;
    if (socket?.readyState < 2) socket.close();
    this.#stopTimers();
    const livedMs = this.#liveAt && Date.now() - this.#liveAt;
    if (livedMs > STABLE_MS) this.#attempt = 0;
    this.#liveAt = 0;
    this.#leaving.clear();
    for (const entry of this.#rooms.values()) if (entry.joined) Object.assign(entry, { joined: false, ready: deferred() });
    for (const request of [...this.#pending.values()]) {
      request.sent = false;
      // Too big once is too big again; what the server's state answers for is asked again by itself.
      if (!request.repeat || code === 1009) this.#settle(request.ref, new FanfareError('connection_lost', 'the connection was lost'));
    }
    if (code === 4013) this.#pace = { ...this.#pace, burst: Math.max(2, this.#pace.burst / 2), perSecond: Math.max(1, this.#pace.perSecond / 2) };
    this.#next(code, code === 1006 && said ? said : CLOSE_WORDS[code] ?? (said || `closed with ${code}`), livedMs);
  }

  /** What follows a loss: another attempt, after how long, or none. */
  #next(code, reason, livedMs) {
    const { retry, retry_after_ms: afterMs } = this.#goodbye ?? {};
    const proven = this.#tokenProven;
    if ([4005, 4500, 4507].includes(code) && this.#options.getToken) {
      this.#token = null;
      this.#why = code === 4005 ? 'expired' : 'refused';
      if (code === 4005) return this.#wait(code, reason, proven ? 0 : this.#backoff());
      if (code === 4500 && proven) return this.#wait(code, reason, this.#backoff());
    }
    if (code === 4005 || (code >= 4500 && code < 4600) || retry === 'never') return this.#stop({ code, reason });
    const soon = retry === 'now' && livedMs > STABLE_MS ? 0 : this.#backoff();
    this.#wait(code, reason, retry === 'after' ? afterMs ?? soon : soon);
  }

  /** Exponential, with full jitter: clients that were cut together come back spread out. */
  #backoff() {
    const { backoffMs, backoffMaxMs } = this.#options;
    return Math.random() * Math.min(backoffMaxMs, backoffMs * 2 ** this.#attempt);
  }

  #wait(code, reason, ms) {
    this.#attempt += 1;
    this.#timers.retry = setTimeout(() => this.#open(), ms);
    this.#set({ state: 'waiting', code, reason, retryAt: Date.now() + ms, attempt: this.#attempt });
  }

  #stop(why, code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#stopTimers();
    this.#hints.abort();
    this.#attempt = 0;
    this.#leaving.clear();
    if (code) socket?.close(code);
    const error = new FanfareError('closed', why.reason);
    for (const ref of [...this.#pending.keys()]) this.#settle(ref, error);
    for (const entry of this.#rooms.values()) {
      entry.ready.reject(error);
      Object.assign(entry, { joined: false, ready: deferred() });
    }
    this.#set({ state: 'closed', ...why });
  }

  #stopTimers() {
    for (const [name, timer] of Object.entries(this.#timers)) {
      clearTimeout(timer);
      this.#timers[name] = 0;
    }
    this.#pinging = false;
  }
}

/** A promise and what settles it. Nobody may be waiting for it, so its rejection is no error of its own. */
function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {});
  return made;
}

function roomOf(task) {
  const room = String(task).startsWith('task:') ? String(task) : `task:${task}`;
  if (/^task:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(room)) return room;
  throw new FanfareError('bad_request', `"${task}" is no task id: expected a UUID in lower case`);
}

/** `crypto.randomUUID` exists in secure contexts only; a page on a plain-http address needs ids, too. */
function uuid() {
  if (globalThis.crypto.randomUUID) return crypto.randomUUID();
  const hex = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
}
