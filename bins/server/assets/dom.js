/** Small pieces that all parts of the page use. Text goes in by `textContent` only. */

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** A copy of a template's only element, and a lookup in it by selector. */
export function fromTemplate(id) {
  const node = byId(id).content.firstElementChild.cloneNode(true);
  return { node, find: (selector) => node.querySelector(selector) };
}

/** `10:42:07`, in the viewer's zone. */
export const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });

/** Sets a `<time>` to an instant of the wire. */
export function setTime(node, at) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return;
  node.dateTime = date.toISOString();
  node.textContent = clock(date);
  node.title = date.toLocaleString();
}

/** `4.2 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** Printable text of one line: no escape sequences, no control characters, of rewritten lines the last state. */
export function plain(text) {
  // eslint-disable-next-line no-control-regex
  const shown = String(text).replace(/\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])/g, '').replace(/\r+$/, '');
  return shown.slice(shown.lastIndexOf('\r') + 1).replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '');
}

/** Copies text and says so on the button for a moment. */
export async function copy(button, text) {
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Copy failed';
  }
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = String(setTimeout(() => { button.textContent = before; }, 1500));
}

/** Makes a command's button copy it. @param {HTMLElement} node A `.command`. */
export function copyFrom(node) {
  const button = node.querySelector('button');
  button.addEventListener('click', () => copy(button, node.querySelector('code').textContent));
}

/** What is remembered between visits; a browser may forbid it, then nothing is. */
export const memory = {
  get(key) { try { return JSON.parse(localStorage.getItem(`fanfare.${key}`)); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(`fanfare.${key}`, JSON.stringify(value)); } catch { /* Not remembered. */ } },
};

/** The task's id in an event, if it says one anywhere. */
export function taskOf({ rooms, data }) {
  const room = Object.keys(rooms ?? {}).find((name) => name.startsWith('task:'));
  const named = [room?.slice(5), data?.task, data?.task_id].find((id) => typeof id === 'string');
  const id = named?.replace(/^task:/, '').toLowerCase();
  return isTaskId(id) ? id : null;
}

export const isTaskId = (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text ?? '');

/** What a task is called, from the data of its events. */
export function titleOf(data) {
  const name = data?.title ?? data?.name ?? data?.command;
  if (Array.isArray(name)) return plain(name.join(' '));
  return typeof name === 'string' && name.trim() ? plain(name) : null;
}
