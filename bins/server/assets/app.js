/** The page of `--dev`: one connection, the tasks that are watched through it, and what surrounds them. */

import { connect } from './fanfare.js';
import { TASKS_MAX, format, isUser, read, write } from './address.js';
import { byId, copyFrom, isTaskId, memory, taskOf } from './dom.js';
import { Notifications } from './notifications.js';
import { RecentTasks } from './recent.js';
import { TaskPanel } from './task-panel.js';
import { showLink } from './link.js';
import { listenToKeys } from './keys.js';

/** Most panels that notifications open; ended ones make room. */
const AUTO_MAX = 4;

let view = read();
/** @type {import('./fanfare.js').Fanfare} */
let fanfare;
/** The user's room when this page came to it: what has a higher number happened before the viewer's eyes. */
let firstSeq = null;
/** How the command line is called where this server was started. */
let fanfareCommand = 'fanfare';
/** @type {Map<string, TaskPanel>} */
const panels = new Map();

const href = (task) => format({ user: view.user, tasks: [...new Set([...panels.keys(), task])] });
const notifications = new Notifications({
  open,
  href,
  // Without a connection the next look says it.
  read: (which) => { for (const said of [fanfare.read(which), fanfare.ack()]) said.catch(() => {}); },
});
const recent = new RecentTasks({ open, href, live: () => fanfare?.state.state === 'live' });

/** This browser's name as a device, by which the server knows that it was never here. */
function device() {
  const kept = memory.get('device');
  if (typeof kept === 'string') return kept;
  const name = `page-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
  memory.set('device', name);
  return name;
}

function begin() {
  const { user } = view;
  const room = `user:${user}`;
  for (const id of [...panels.keys()]) remove(id);
  fanfare?.close();
  firstSeq = null;
  const mine = (fanfare = connect({
    getToken: async () => {
      const response = await fetch(`/dev/token?user=${user}`);
      if (!response.ok) throw new Error(`GET /dev/token answered ${response.status}`);
      return (await response.json()).token;
    },
    device: device(),
    since: notifications.begin(user),
  }));
  mine.on('state', (state) => { if (mine === fanfare) showLink(state); });
  mine.on('system:welcome', ({ data }) => {
    const info = data.rooms[room];
    firstSeq ??= info.seq;
    notifications.welcomed(info);
    recent.refresh(0);
  });
  mine.on('system:gap', ({ data }) => notifications.gap(data), { room });
  mine.on('*', (event) => notified(event, event.rooms[room]), { room });
  showLink(mine.state);
  showUser();
  for (const id of view.tasks) add(id);
  shown();
}

/** An event came through the user's room. */
function notified(event, seq) {
  notifications.add(event);
  if (event.type.startsWith('task:') && event.type !== 'task:status') recent.refresh();
  const task = taskOf(event);
  if (event.type === 'task:created' && task && seq > firstSeq && byId('auto-open').checked) openByItself(task);
}

function openByItself(task) {
  if (panels.has(task)) return;
  if (panels.size >= AUTO_MAX) {
    const done = [...panels.values()].find((panel) => panel.auto && panel.ended && !panel.node.contains(document.activeElement));
    if (!done) return;
    remove(done.id);
  }
  add(task).auto = true;
  shown();
}

function add(id) {
  const { user } = view;
  const panel = new TaskPanel(id, { user, command: command(user, id), send: (...what) => fanfare.send(...what), onClose: () => close(id) });
  panels.set(id, panel);
  byId('watching').append(panel.node);
  const { room } = panel;
  panel.offs = [
    fanfare.on('*', (event) => panel.event(event), { room }),
    fanfare.on('system:joined', ({ data }) => panel.joined(data), { room }),
    fanfare.on('system:gap', ({ data }) => panel.gap(data), { room }),
    fanfare.on('system:left', ({ data }) => panel.left(data.reason), { room }),
  ];
  fanfare.join(id, { since: 'oldest' }).catch((error) => {
    if (error.code !== 'left' && error.code !== 'closed') panel.refused(error);
  });
  return panel;
}

function remove(id) {
  const panel = panels.get(id);
  for (const off of panel.offs) off();
  panel.node.remove();
  panels.delete(id);
  fanfare.leave(id);
}

/** Opens a task, or goes to it where it is open. */
function open(id) {
  if (!panels.has(id)) {
    if (panels.size >= TASKS_MAX) remove(panels.keys().next().value);
    add(id);
  }
  show('watching');
  shown();
  panels.get(id).node.focus();
  panels.get(id).node.scrollIntoView({ block: 'nearest' });
}

function close(id) {
  const order = [...panels.keys()];
  const next = order[order.indexOf(id) + 1] ?? order[order.indexOf(id) - 1];
  remove(id);
  shown();
  (panels.get(next)?.node ?? byId('watching')).focus();
}

/** After the set of open tasks changed. */
function shown() {
  view = { user: view.user, tasks: [...panels.keys()] };
  write(view);
  byId('empty').hidden = panels.size > 0;
  byId('watching').dataset.panels = String(Math.min(panels.size, 3));
  recent.mark(view.tasks);
}

function showUser() {
  const { user } = view;
  const other = user === '8' ? '7' : '8';
  for (const radio of document.querySelectorAll('[name=user]')) radio.checked = radio.value === user;
  byId('user-other').value = user === '7' || user === '8' ? '' : user;
  for (const node of document.querySelectorAll('.user-number')) node.textContent = user;
  byId('other-number').textContent = other;
  byId('same-user').href = format({ user });
  byId('other-user').href = format({ user: other });
  byId('command').querySelector('code').textContent = command(user);
}

/** A command that takes some seconds, as the server's own welcome has it. */
const command = (user, task) => `${fanfareCommand} exec ${task ? `--task ${task} ` : ''}--user ${user} -- sh -c 'for n in 25 50 75 100; do sleep 1; echo "$n%"; done'`;

function chooseUser(user) {
  if (user === view.user) return;
  view = { ...view, user };
  begin();
}

/** @param {'tasks'|'watching'|'notifications'} name Which part a narrow window shows. */
function show(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll('.dock button')) {
    if (button.dataset.view === name) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  }
  if (name === 'notifications') notifications.look();
}

function toggleNotifications() {
  const narrow = getComputedStyle(document.querySelector('.dock')).display !== 'none';
  if (narrow) return show(document.body.dataset.view === 'notifications' ? 'watching' : 'notifications');
  const hide = !document.body.classList.contains('no-notifications');
  document.body.classList.toggle('no-notifications', hide);
  byId('bell').setAttribute('aria-expanded', String(!hide));
  memory.set('notifications', !hide);
  if (!hide) notifications.look();
}

function toggleTheme() {
  const now = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  const theme = now === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem('fanfare.theme', theme); } catch { /* It lasts as long as the page. */ }
}

function wire() {
  byId('user').addEventListener('change', ({ target }) => {
    if (target.name === 'user') chooseUser(target.value);
    else if (isUser(target.value)) chooseUser(target.value);
    else showUser();
  });
  byId('user').addEventListener('submit', (event) => event.preventDefault());
  byId('open-task').addEventListener('submit', (event) => {
    event.preventDefault();
    const id = byId('task-id').value.trim().toLowerCase().replace(/^task:/, '');
    byId('task-id-error').textContent = isTaskId(id) ? '' : 'A task id is a UUID, like 550e8400-e29b-41d4-a716-446655440000.';
    if (!isTaskId(id)) return;
    byId('task-id').value = '';
    open(id);
  });
  for (const button of document.querySelectorAll('.new-task')) button.addEventListener('click', () => open(crypto.randomUUID()));
  copyFrom(byId('command'));
  byId('bell').addEventListener('click', toggleNotifications);
  byId('theme').addEventListener('click', toggleTheme);
  byId('help').addEventListener('click', () => byId('keys').showModal());
  byId('link-now').addEventListener('click', () => fanfare.reconnect());
  byId('auto-open').checked = memory.get('autoOpen') ?? true;
  byId('auto-open').addEventListener('change', ({ target }) => memory.set('autoOpen', target.checked));
  for (const button of document.querySelectorAll('.dock button')) button.addEventListener('click', () => show(button.dataset.view));
  if (memory.get('notifications') === false) toggleNotifications();
  addEventListener('hashchange', () => {
    view = read();
    begin();
  });
  setInterval(() => {
    if (document.hidden) return;
    for (const panel of panels.values()) panel.tick(Date.now());
    showLink(fanfare.state);
  }, 1000);
  listenToKeys({ panels, open, close, toggleNotifications, toggleTheme, show });
}

try {
  const response = await fetch('/command.txt');
  if (response.ok) fanfareCommand = await response.text();
} catch { /* The server is away already: the connection says so. */ }
wire();
show('watching');
begin();
