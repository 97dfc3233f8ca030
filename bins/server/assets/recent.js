/** The list of recent tasks, from the development server's `GET /dev/tasks`. */

import { byId, fromTemplate, isTaskId, setTime } from './dom.js';
import { titleFor } from './titles.js';

const POLL_MS = 10_000;
const SOON_MS = 300;
const SHOWN_MAX = 50;

export class RecentTasks {
  #list = byId('recent');
  #rows = new Map();
  #opened = new Set();
  #timer = 0;
  #open;
  #href;
  #live;

  /** @param {{open: (task: string) => void, href: (task: string) => string, live: () => boolean}} options */
  constructor({ open, href, live }) {
    this.#open = open;
    this.#href = href;
    this.#live = live;
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.refresh(); });
  }

  /** Asks soon; many calls at once are one question. */
  refresh(ms = SOON_MS) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), ms);
  }

  async #load() {
    if (document.hidden || !this.#live()) return;
    try {
      const response = await fetch('/dev/tasks');
      if (response.ok) this.#show((await response.json()).tasks ?? []);
    } catch { /* The server is away, which the page says already; the next connection asks again. */ }
    this.refresh(POLL_MS);
  }

  /** @param {string[]} tasks Those being watched. */
  mark(tasks) {
    this.#opened = new Set(tasks);
    for (const [id, { node, find }] of this.#rows) {
      find('a').href = this.#href(id);
      if (this.#opened.has(id)) find('a').setAttribute('aria-current', 'true');
      else find('a').removeAttribute('aria-current');
      node.classList.toggle('opened', this.#opened.has(id));
    }
  }

  #show(tasks) {
    const rows = new Map();
    for (const { task, status, at } of tasks.slice(0, SHOWN_MAX)) {
      if (!isTaskId(task)) continue;
      const row = this.#rows.get(task) ?? this.#row(task);
      row.node.dataset.status = status;
      row.find('.name').textContent = titleFor(task) ?? 'Task';
      row.find('.status').textContent = status;
      setTime(row.find('time'), at);
      rows.set(task, row);
    }
    this.#rows = rows;
    const nodes = [...rows.values()].map(({ node }) => node);
    // Rows that stay in place are not touched: the focus may be on one.
    if (nodes.length !== this.#list.children.length || nodes.some((node, i) => node !== this.#list.children[i])) {
      const focused = document.activeElement;
      this.#list.replaceChildren(...nodes);
      if (this.#list.contains(focused)) focused.focus();
    }
    byId('recent-empty').hidden = nodes.length > 0;
    this.mark([...this.#opened]);
  }

  #row(task) {
    const row = fromTemplate('recent-template');
    row.find('.mono').textContent = task.slice(0, 8);
    row.find('a').title = task;
    row.find('a').addEventListener('click', (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
      event.preventDefault();
      this.#open(task);
    });
    return row;
  }
}
