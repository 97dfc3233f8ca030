/** What came through the user's room: a list, and how much of it is new since the user last looked. */

import { byId, fromTemplate, memory, plain, setTime, taskOf, titleOf } from './dom.js';
import { gapText } from './gaps.js';
import { remember, titleFor } from './titles.js';

const NOTES_MAX = 200;
/** How much of what was seen already is shown again when the page is opened. */
const AGAIN = 30;

const WORDS = {
  'task:created': 'Task created', 'task:started': 'Task started', 'task:completed': 'Task completed', 'task:failed': 'Task failed',
  'task:cancelled': 'Task cancelled', 'task:deleted': 'Task deleted', 'user:notification': 'Notification',
};
/** No news: the server does not count it as unread either. */
const QUIET = new Set(['task:started']);

export class Notifications {
  #list = byId('notes');
  #user = '';
  #open;
  #href;
  #epoch = null;
  #head = 0;
  #seen = 0;
  #unseen = new Set();

  #read;

  /** @param {{open: (task: string) => void, href: (task: string) => string, read: (which: {upTo: number, epoch: string}) => void}} options */
  constructor({ open, href, read }) {
    this.#read = read;
    this.#open = open;
    this.#href = href;
    byId('mark-seen').addEventListener('click', () => this.look());
    // Another tab of this user looked.
    addEventListener('storage', ({ key }) => {
      if (key !== `fanfare.seen.${this.#user}`) return;
      const seen = memory.get(`seen.${this.#user}`);
      if (seen?.epoch === this.#epoch) this.#sawUpTo(seen.seq);
    });
  }

  /** Another user's list. @returns {import('./fanfare.js').Positions} Where to resume from. */
  begin(user) {
    this.#user = user;
    this.#list.replaceChildren();
    this.#unseen.clear();
    this.#epoch = null;
    const seen = memory.get(`seen.${user}`);
    this.#seen = seen?.seq ?? 0;
    byId('notifications-for').textContent = `of user ${user}, on all tabs and devices`;
    this.#show();
    return seen?.epoch ? { [`user:${user}`]: { epoch: seen.epoch, seq: Math.max(0, seen.seq - AGAIN) } } : {};
  }

  /** The server named the room's place. */
  welcomed({ epoch, seq, recovered }) {
    if (this.#epoch === epoch) return;
    const stored = memory.get(`seen.${this.#user}`);
    this.#epoch = epoch;
    this.#head = seq;
    // On the first visit all that the server sends is news: what the user has not read on any device. Numbers of another
    // epoch say nothing; where nothing is replayed, only what comes from now on is news.
    if ((stored && stored.epoch !== epoch) || recovered === undefined) this.#remember(seq);
  }

  gap(gap) {
    const row = document.createElement('li');
    row.className = 'gap';
    row.textContent = gapText(gap);
    this.#put(row);
  }

  /** @param {import('./fanfare.js').FanfareEvent} event */
  add(event) {
    const seq = event.rooms[`user:${this.#user}`];
    const task = taskOf(event);
    if (!event.ephemeral) this.#head = Math.max(this.#head, seq);
    // Another device looked, or another browser.
    if (event.type === 'inbox:read') return this.#sawUpTo(event.data.up_to ?? 0);
    if (task) remember(task, titleOf(event.data));
    if (event.type === 'task:status') return; // Output is shown where the task is.
    const { node, find } = fromTemplate('note-template');
    node.dataset.type = event.type;
    node.dataset.seq = String(seq);
    if (task) {
      node.dataset.task = task;
      find('a').href = this.#href(task);
      find('a').addEventListener('click', (click) => {
        this.look();
        if (click.ctrlKey || click.metaKey || click.shiftKey || click.button !== 0) return;
        click.preventDefault();
        this.#open(task);
      });
    }
    find('.what').textContent = WORDS[event.type] ?? event.type;
    find('.about').textContent = this.#about(event, task);
    setTime(find('time'), event.at);
    node.title = event.ephemeral ? 'not kept' : `#${seq}`;
    this.#put(node);
    if (seq > this.#seen && !event.ephemeral && !QUIET.has(event.type)) {
      this.#unseen.add(seq);
      node.classList.add('new');
    }
    this.#show();
  }

  /** The user looked: nothing is new any more, in all tabs of this browser, and on all devices that are connected. */
  look() {
    if (this.#unseen.size) this.#read({ upTo: this.#head, epoch: this.#epoch });
    if (this.#unseen.size || this.#seen < this.#head) this.#remember(this.#head);
    this.#sawUpTo(this.#head);
  }

  get count() { return this.#unseen.size; }

  #about({ data, type }, task) {
    const title = task && titleFor(task);
    const text = [data?.text, data?.message, title].find((words) => typeof words === 'string');
    const fallback = task ? task.slice(0, 8) : JSON.stringify(data);
    const code = type === 'task:failed' && Number.isInteger(data?.exit_code) ? ` (exit code ${data.exit_code})` : '';
    return `${plain(text ?? fallback ?? '').slice(0, 300)}${code}`;
  }

  #put(row) {
    this.#list.prepend(row);
    if (this.#list.childElementCount > NOTES_MAX) this.#list.lastElementChild.remove();
    this.#show();
  }

  #remember(seq) {
    this.#seen = seq;
    if (this.#epoch) memory.set(`seen.${this.#user}`, { epoch: this.#epoch, seq });
  }

  #sawUpTo(seq) {
    this.#seen = Math.max(this.#seen, seq);
    for (const unseen of [...this.#unseen]) if (unseen <= seq) this.#unseen.delete(unseen);
    for (const row of this.#list.querySelectorAll('.new')) if (Number(row.dataset.seq) <= seq) row.classList.remove('new');
    this.#show();
  }

  #show() {
    const { size } = this.#unseen;
    for (const badge of [byId('count'), byId('dock-count')]) {
      badge.hidden = size === 0;
      badge.textContent = size > 99 ? '99+' : String(size);
    }
    byId('bell').setAttribute('aria-label', size ? `Notifications, ${size} new` : 'Notifications');
    byId('mark-seen').disabled = size === 0;
    byId('notes-empty').hidden = this.#list.childElementCount > 0;
    document.title = `${size ? `(${size}) ` : ''}Fanfare, user ${this.#user}`;
  }
}
