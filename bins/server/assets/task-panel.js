/** One watched task: how it stands, its output, its chat, its raw events. */

import { clock, copy, copyFrom, duration, fromTemplate, plain, setTime, titleOf } from './dom.js';
import { LogView } from './log-view.js';
import { gapText } from './gaps.js';
import { Tail } from './tail.js';
import { remember, titleFor } from './titles.js';

const EVENTS_MAX = 500;
const MESSAGES_MAX = 300;
const GAPS_MAX = 20;
const BRIEF_MAX = 160;
const RAW_MAX = 20_000;
const ENDED = new Set(['completed', 'failed', 'cancelled', 'deleted']);

let made = 0;

export class TaskPanel {
  /** Opened by a notification, not by hand. */
  auto = false;
  #user;
  #send;
  #log;
  #find;
  #status = 'unknown';
  /** When the status was reached, and when the task started, as the server says. */
  #at = null;
  #startedAt = null;
  #ending = '';
  /** Up to here the snapshot that came with the join has said how the task stands. */
  #snapshotSeq = 0;
  #events = [];
  #eventCount = 0;
  #eventsTail;
  #messagesTail;
  #messages = new Map();

  /**
   * @param {string} id
   * @param {{user: string, command: string, send: Function, onClose: () => void}} options `command` runs something as this
   *   task; `send(type, data, {task, id})`.
   */
  constructor(id, { user, command, send, onClose }) {
    this.id = id;
    this.room = `task:${id}`;
    this.#user = user;
    this.#send = send;
    const { node, find } = fromTemplate('panel-template');
    this.node = node;
    this.#find = find;
    const title = find('.title');
    title.id = `panel-${(made += 1)}`;
    title.textContent = titleFor(id) ?? `Task ${id.slice(0, 8)}`;
    node.setAttribute('aria-labelledby', title.id);
    node.dataset.task = id;
    find('.id').textContent = id;
    find('.id').addEventListener('click', () => copy(find('.id'), id));
    find('.close').addEventListener('click', onClose);
    find('.show-output').addEventListener('click', () => this.show('output'));
    find('.show-events').addEventListener('click', () => this.show('events'));
    find('.newest').addEventListener('click', () => this.jump());
    find('form').addEventListener('submit', (event) => { event.preventDefault(); this.#say(); });
    this.#log = new LogView({
      box: find('.log'), lines: find('.lines'), partial: find('.partial'), cut: find('.cut'), newest: find('.newest'), empty: find('.log-empty'),
    });
    this.#eventsTail = new Tail(find('.events'));
    this.#messagesTail = new Tail(find('.messages'));
    find('.command code').textContent = command;
    copyFrom(find('.command'));
    this.#showStatus();
  }

  get ended() { return ENDED.has(this.#status); }

  /** The room was joined: what the server says of the task at that moment. */
  joined({ epoch, seq, state }) {
    this.#snapshotSeq = seq;
    this.#find('.head').textContent = `at #${seq}`;
    this.#find('.head').title = `The last event's number, in epoch ${epoch}`;
    if (state && state.status !== 'unknown') this.#reach(state.status, state.at);
    if (state?.last) this.#progress(state.last);
  }

  refused(error) {
    this.#find('.log-empty').replaceChildren(`This task can't be watched: ${error.message} (${error.code}).`);
    this.#find('.log-empty').classList.add('error');
  }

  left(reason) {
    this.#reach(reason === 'deleted' ? 'deleted' : this.#status, new Date().toISOString());
    this.#log.note(`This connection left the room: ${reason}.`);
  }

  gap(gap) {
    const text = gapText(gap);
    const row = document.createElement('li');
    row.textContent = text;
    const list = this.#find('.gaps');
    list.append(row);
    if (list.childElementCount > GAPS_MAX) list.firstElementChild.remove();
    this.#log.note(text);
  }

  /** @param {import('./fanfare.js').FanfareEvent} event One of this task's room. */
  event(event) {
    const seq = event.rooms[this.room];
    if (!event.ephemeral) this.#find('.head').textContent = `at #${seq}`;
    this.#record(event, seq);
    const [namespace, name] = event.type.split(':');
    if (namespace === 'chat') this.#message(event);
    if (namespace !== 'task') return;
    const title = titleOf(event.data);
    remember(this.id, title);
    if (title) this.#find('.title').textContent = title;
    if (name === 'status') return this.#output(event.data);
    if (name === 'started') this.#startedAt = Date.parse(event.at);
    if (ENDED.has(name)) this.#end(name, event.data);
    // A replay tells how the task came to where the snapshot says it is: that is not news.
    if (seq > this.#snapshotSeq) this.#reach(name, event.at);
    else this.#showStatus();
  }

  #output(data) {
    if (data?.dropped > 0) this.#log.note(`${data.dropped} lines were dropped before they reached the server.`);
    if (Array.isArray(data?.lines)) this.#log.add(data.lines);
    if (!this.ended || data?.partial) this.#log.setPartial(data?.partial ?? null);
    this.#progress(data);
  }

  #progress(data) {
    // In a replay it is what was, and completed is all of it.
    if (typeof data?.progress === 'number' && this.#status !== 'completed') this.#showProgress(Math.min(1, Math.max(0, data.progress)));
  }

  #end(name, data) {
    const code = data?.exit_code ?? data?.code;
    const why = data?.error ?? data?.reason ?? data?.message;
    const words = [Number.isInteger(code) && `exit code ${code}`, data?.signal && `signal ${data.signal}`, typeof why === 'string' && why];
    this.#ending = words.filter(Boolean).map(plain).join(', ');
    this.#log.note(this.#ending ? `${name}: ${this.#ending}` : name);
    this.#log.setPartial(null);
  }

  #reach(status, at) {
    this.#status = status;
    this.#at = at ? Date.parse(at) : null;
    if (status === 'completed') this.#showProgress(1);
    this.#showStatus();
  }

  #showStatus() {
    this.node.dataset.status = this.#status;
    this.#find('.status').textContent = this.#status;
    const bar = this.#find('progress');
    const known = this.node.dataset.progress !== undefined;
    if (!known && this.#status === 'started') bar.removeAttribute('value');
    else if (!known) bar.value = 0;
    for (const field of this.#find('form').elements) field.disabled = this.#status === 'deleted';
    this.#find('.what-now').hidden = this.#status !== 'unknown';
    this.#find('.quiet').hidden = this.#status === 'unknown';
    this.#find('.quiet').textContent = this.ended ? 'It had no output.' : 'No output yet.';
    this.tick(Date.now());
  }

  /** Once a second: how long it has been at work. */
  tick(now) {
    const words = [];
    if (this.#at) words.push(clock(this.#at));
    if (this.#status === 'started' && this.#at) words.push(`for ${duration(now - this.#at).replace(/\.\d/, '')}`);
    else if (this.ended && this.#startedAt) words.push(`after ${duration(this.#at - this.#startedAt)}`);
    if (this.#ending) words.push(this.#ending);
    const text = words.join(' · ');
    this.#find('.since').textContent = text;
    this.#find('.since').title = text;
  }

  #showProgress(part) {
    this.node.dataset.progress = String(part);
    this.#find('progress').value = part;
    this.#find('.percent').textContent = `${Math.floor(part * 100)} %`;
  }

  /** @param {'output'|'events'} [what] Without it, the other one. */
  show(what = this.#find('.events').hidden ? 'events' : 'output') {
    const events = what === 'events';
    this.#find('.show-output').setAttribute('aria-pressed', String(!events));
    this.#find('.show-events').setAttribute('aria-pressed', String(events));
    this.#find('.log').hidden = events;
    this.#find('.events').hidden = !events;
    this.node.dataset.shows = what;
    if (events) this.#find('.events').replaceChildren(...this.#events.map((entry) => this.#eventRow(entry)));
    this.jump();
  }

  jump() {
    this.#log.jump();
    this.#eventsTail.jump();
  }

  writeMessage() { this.#find('.say').focus(); }

  #record(event, seq) {
    this.#eventCount += 1;
    this.#find('.events-count').textContent = String(this.#eventCount);
    this.#events.push({ event, seq });
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    const list = this.#find('.events');
    if (list.hidden) return;
    list.append(this.#eventRow({ event, seq }));
    if (list.childElementCount > EVENTS_MAX) list.firstElementChild.remove();
    this.#eventsTail.grown();
  }

  #eventRow({ event, seq }) {
    const { node, find } = fromTemplate('event-template');
    find('.seq').textContent = event.ephemeral ? '–' : `#${seq}`;
    if (event.ephemeral) find('.seq').title = 'not kept: it has no number of its own';
    setTime(find('time'), event.at);
    find('.type').textContent = event.type;
    find('.brief').textContent = (JSON.stringify(event.data) ?? '').slice(0, BRIEF_MAX);
    find('details').addEventListener('toggle', () => {
      find('pre').textContent = JSON.stringify(event, null, 2).slice(0, RAW_MAX);
    }, { once: true });
    return node;
  }

  #message(event) {
    const text = typeof event.data?.text === 'string' ? event.data.text : JSON.stringify(event.data);
    const row = this.#messages.get(event.id) ?? this.#messageRow(event.id);
    const mine = event.from === `user:${this.#user}`;
    row.node.classList.toggle('mine', mine);
    row.node.classList.remove('sending');
    row.find('.who').textContent = mine ? 'you' : event.from?.replace(':', ' ') ?? 'back end';
    row.find('.text').textContent = text;
    row.find('.meta').textContent = clock(event.at);
    row.node.title = `#${event.rooms[this.room]}`;
    // The server's order, not that in which they were written.
    row.place();
  }

  #messageRow(id) {
    const list = this.#find('.messages');
    const row = fromTemplate('message-template');
    row.place = () => {
      list.append(row.node);
      if (row.node.classList.contains('mine')) this.#messagesTail.jump(); else this.#messagesTail.grown();
    };
    this.#messages.set(id, row);
    if (this.#messages.size > MESSAGES_MAX) {
      const [oldest, { node }] = this.#messages.entries().next().value;
      node.remove();
      this.#messages.delete(oldest);
    }
    return row;
  }

  async #say() {
    const field = this.#find('.say');
    const text = field.value.trim();
    if (!text) return;
    field.value = '';
    await this.#sendText(text, crypto.randomUUID());
  }

  async #sendText(text, id) {
    const row = this.#messages.get(id) ?? this.#messageRow(id);
    row.node.className = 'mine sending';
    row.find('.who').textContent = 'you';
    row.find('.text').textContent = text;
    row.find('.meta').textContent = 'sending…';
    row.place();
    try {
      await this.#send('chat:message', { text }, { task: this.id, id });
      this.#find('.chat .error').textContent = '';
    } catch (error) {
      if (!row.node.classList.contains('sending')) return; // It had arrived; only the answer was lost.
      row.node.className = 'mine failed';
      const again = document.createElement('button');
      again.type = 'button';
      again.className = 'text';
      again.textContent = 'Send again';
      again.addEventListener('click', () => this.#sendText(text, id));
      row.find('.meta').replaceChildren(again);
      this.#find('.chat .error').textContent = `Not sent: ${error.message} (${error.code ?? error.name}).`;
    }
  }
}

