// What docs/browser-client.md says of fanfare.js, a sentence a scenario.

const scenarios = {
  async 'the token is the first message, and never in the address'(w) {
    w.connect({ token: 'secret', device: 'phone.1' });
    await w.open();
    equal(w.socket.url.href, 'wss://events.test/v1/user/notifications?device=phone.1', 'the address');
    equal(w.socket.protocols, 'fanfare.v1', 'the subprotocol');
    equal(w.said(), [{ op: 'auth', token: 'secret' }], 'what was said');
  },

  async 'a server that is mounted under a path keeps that path'(w) {
    for (const [url, href] of [
      ['https://events.test/live', 'wss://events.test/live/v1/user/notifications'],
      ['ws://events.test/live/', 'ws://events.test/live/v1/user/notifications'],
      ['http://events.test', 'ws://events.test/v1/user/notifications'],
    ]) {
      w.connect({ url });
      await settle();
      equal(w.socket.url.href, href, url);
    }
  },

  async 'a room that is joined before the connection is there is joined with it, and again with the next'(w) {
    const client = w.connect();
    const ready = client.join(TASK);
    await w.welcome();
    await w.joined({ seq: 5 });
    equal((await ready).seq, 5);
    await w.event('a', { [ROOM]: 6 });
    await w.drop();
    await w.advance(500);
    await w.welcome();
    equal(w.last('join').since, { epoch: 'e', seq: 6 }, 'since');
    equal(w.socket.url.search, '?since=user%3A7%40e%3A0', 'the position in the user room');
  },

  async 'calls for a room that is being joined are one join'(w) {
    const client = w.connect();
    const calls = [client.join(TASK), client.join(ROOM), client.join(TASK)];
    await w.welcome();
    await w.joined({ seq: 3 });
    equal((await Promise.all(calls)).map(({ seq }) => seq), [3, 3, 3]);
    equal((await client.join(TASK)).seq, 3);
    equal(w.said().filter(({ op }) => op === 'join').length, 1, 'joins');
  },

  async 'positions of an earlier page are resumed from'(w) {
    w.connect({ since: { 'user:7': { epoch: 'e', seq: 4 }, [ROOM]: { epoch: 'e', seq: 9 } } });
    equal(w.socket.url.searchParams.get('since'), 'user:7@e:4');
    await w.welcome({ seq: 6, recovered: true });
    equal(w.last('join').since, { epoch: 'e', seq: 9 });
    await w.joined({ seq: 10, recovered: true });
    for (const seq of [5, 6]) await w.event(`user ${seq}`, { 'user:7': seq });
    await w.event('task 10', { [ROOM]: 10 });
    equal(w.ids(), ['user 5', 'user 6', 'task 10']);
    equal(w.client.positions, { 'user:7': { epoch: 'e', seq: 6 }, [ROOM]: { epoch: 'e', seq: 10 } });
  },

  async 'the oldest event that is kept is asked for by the epoch that the first answer names'(w) {
    const client = w.connect();
    client.on('system:*', ({ type }) => w.events.push({ id: type }));
    const ready = client.join(TASK, { since: 'oldest' });
    await w.welcome();
    await w.joined({ seq: 2 });
    equal(w.said().slice(1), [{ op: 'join', room: ROOM }, { op: 'leave', room: ROOM }, { op: 'join', room: ROOM, since: { epoch: 'e', seq: 0 } }]);
    await w.event('too early', { [ROOM]: 3 });
    await w.say('left', { room: ROOM, reason: 'asked' });
    await w.reply(w.last('leave').ref);
    equal(await now(ready), 'pending');
    await w.joined({ seq: 3, recovered: true });
    for (const seq of [1, 2, 3]) await w.event(`replayed ${seq}`, { [ROOM]: seq });
    equal((await ready).seq, 3);
    equal(w.ids(), ['system:welcome', 'system:joined', 'replayed 1', 'replayed 2', 'replayed 3']);
  },

  async 'a room that is left and joined again at once is joined'(w) {
    const client = w.connect();
    client.join(TASK);
    await w.welcome();
    await w.joined({ seq: 5 });
    client.leave(TASK);
    const again = client.join(TASK);
    equal(w.said().slice(2), [{ op: 'leave', room: ROOM }, { op: 'join', room: ROOM }]);
    await w.event('of the past', { [ROOM]: 6 });
    await w.say('left', { room: ROOM, reason: 'asked' });
    await w.reply(w.last('leave').ref);
    equal(await now(again), 'pending');
    await w.joined({ seq: 6 });
    equal((await again).seq, 6);
    await w.event('live', { [ROOM]: 7 });
    equal(w.ids(), ['live']);
  },

  async 'of a room that was left nothing is handed out'(w) {
    const client = w.connect();
    const ready = client.join(TASK);
    client.join(OTHER);
    client.leave(TASK);
    await fails(ready, 'left');
    await w.welcome();
    equal(w.said().slice(1), [{ op: 'join', room: `task:${OTHER}` }]);
    await w.joined({ room: `task:${OTHER}` });
    client.leave(OTHER);
    await w.event('late', { [`task:${OTHER}`]: 1 });
    equal(w.events, []);
  },

  async 'an event is handed out once, whichever of its rooms it comes through again'(w) {
    const client = w.connect();
    const [task, user] = [[], []];
    client.on('*', ({ id, rooms }) => task.push([id, rooms]), { room: ROOM });
    client.on('chat:*', ({ id }) => user.push(id), { room: 'user:7' });
    await w.welcome();
    await w.event('both', { 'user:7': 1 });
    client.join(TASK, { since: { epoch: 'e', seq: 0 } });
    await w.joined({ seq: 2, recovered: true });
    await w.event('own', { [ROOM]: 1 });
    await w.event('both', { [ROOM]: 2 });
    await w.event('live', { [ROOM]: 3, 'user:7': 2 });
    await w.event('live', { [ROOM]: 3, 'user:7': 2 });
    equal(w.ids(), ['both', 'own', 'live'], 'for all');
    equal(task, [['own', { [ROOM]: 1 }], ['both', { [ROOM]: 2 }], ['live', { [ROOM]: 3, 'user:7': 2 }]], "the task's");
    equal(user, ['both', 'live'], "the user's");
  },

  async 'an id that is used again after a day is another event'(w) {
    w.connect();
    await w.welcome();
    await w.event('daily', { 'user:7': 1 });
    w.now += 23 * 3_600_000;
    await w.event('daily', { 'user:7': 2 });
    equal(w.events.length, 1, 'within the day');
    w.now += 2 * 3_600_000;
    await w.event('daily', { 'user:7': 3 });
    equal(w.events.length, 2, 'after it');
  },

  async 'the ids that are remembered are the last thousand'(w) {
    const client = w.connect();
    client.join(TASK, { since: { epoch: 'e', seq: 0 } });
    await w.welcome();
    await w.joined({ seq: 1_001, recovered: true });
    const bring = (room, seq) => w.socket.onmessage({ data: show({ type: 'a:b', id: `${seq}`, at: '2026-01-01T00:00:00Z', rooms: { [room]: seq } }) });
    for (let seq = 1; seq <= 1_001; seq += 1) bring('user:7', seq);
    w.events.length = 0;
    for (let seq = 2; seq <= 1_001; seq += 1) bring(ROOM, seq);
    equal(w.ids(), []);
    client.leave(TASK);
    await w.reply(w.last('leave').ref);
    client.join(TASK, { since: { epoch: 'e', seq: 0 } });
    await w.joined({ seq: 1_001, recovered: true });
    bring(ROOM, 1);
    equal(w.ids(), ['1']);
  },

  async 'a gap that the server tells is handed on, and the position with it'(w) {
    const client = w.connect({ since: { 'user:7': { epoch: 'old', seq: 9 } } });
    const gaps = [];
    client.on('system:gap', ({ data }) => gaps.push(data));
    await w.welcome({ epoch: 'new', seq: 3, recovered: false });
    equal(client.positions, { 'user:7': { epoch: 'old', seq: 9 } }, 'a connection lost here has the gap told again');
    await w.say('gap', { room: 'user:7', epoch: 'new', from: 1, to: 2, reason: 'epoch', unread: 5 });
    equal(gaps.map(({ reason }) => reason), ['epoch']);
    equal(client.unread, 5);
    await w.event('kept', { 'user:7': 3 });
    equal(w.ids(), ['kept']);
    equal(client.positions, { 'user:7': { epoch: 'new', seq: 3 } });
  },

  async 'a hole that nobody told is told'(w) {
    const client = w.connect();
    const [gaps, ofRoom] = [[], []];
    client.on('system:gap', ({ data }) => gaps.push(data));
    client.on('system:gap', ({ data }) => ofRoom.push(data), { room: ROOM });
    await w.welcome({ seq: 4 });
    await w.event('a', { 'user:7': 7 });
    equal(gaps, [{ room: 'user:7', epoch: 'e', from: 5, to: 6, reason: 'unannounced' }]);
    equal(ofRoom, []);
    equal(w.ids(), ['a']);
  },

  async 'an ephemeral event moves no position and leaves no hole'(w) {
    const client = w.connect();
    await w.welcome({ seq: 4 });
    await w.event('kept', { 'user:7': 5 });
    await w.event('typing', { 'user:7': 5 }, { ephemeral: true });
    await w.event('next', { 'user:7': 6 });
    equal(w.ids(), ['kept', 'typing', 'next']);
    equal(client.positions['user:7'].seq, 6);
  },

  async 'what one handler throws harms no other'(w) {
    const client = w.connect();
    const thrown = [];
    const caught = (event) => { event.preventDefault(); thrown.push(event.error.message); };
    addEventListener('error', caught);
    client.on('chat:*', () => { throw new Error('mine'); });
    const got = [];
    const off = client.on('chat:message', ({ id }) => got.push(id));
    await w.welcome();
    await w.event('a', { 'user:7': 1 });
    off();
    await w.event('b', { 'user:7': 2 });
    removeEventListener('error', caught);
    equal([thrown, got], [['mine', 'mine'], ['a']]);
  },

  async 'a pattern that matches nothing is an error where it is written'(w) {
    const client = w.connect();
    for (const pattern of ['', 'task', 'task:', ':a', 'Task:a', 'task:*:*', '**']) {
      let code = null;
      try { client.on(pattern, () => {}); } catch (error) { ({ code } = error); }
      equal(code, 'bad_pattern', pattern);
    }
  },

  async 'a lost connection comes back after a wait by chance that doubles up to its bound'(w) {
    w.connect();
    await w.welcome();
    const waits = [];
    for (let i = 0; i < 9; i += 1) {
      await w.drop();
      waits.push(w.client.state.retryAt - w.now);
      equal(w.client.state.attempt, i + 1, 'attempt');
      await w.advance(waits.at(-1));
    }
    equal(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    w.chance = 0.1;
    await w.drop();
    equal(w.client.state.retryAt - w.now, 3_000, 'with other luck');
  },

  async 'a connection that held for a while makes the next failure a first one'(w) {
    w.connect();
    for (let i = 0; i < 4; i += 1) { await settle(); await w.drop(); await w.advance(w.client.state.retryAt - w.now); }
    await w.welcome();
    await w.advance(11_000);
    await w.drop();
    equal([w.client.state.attempt, w.client.state.retryAt - w.now], [1, 250]);
  },

  async 'close codes and goodbyes decide about coming back'(w) {
    for (const [code, retry, after, state, ms] of [
      [1006, undefined, undefined, 'waiting', 250],
      [1001, undefined, undefined, 'waiting', 250],
      [4001, 'after', 4_321, 'waiting', 4_321],
      [4001, undefined, undefined, 'waiting', 250],
      [4008, 'after', 77, 'waiting', 77],
      [4012, 'now', undefined, 'waiting', 0],
      [4013, 'after', 5, 'waiting', 5],
      [4014, 'after', 900, 'waiting', 900],
      [4014, undefined, undefined, 'waiting', 250],
      [4005, 'now', undefined, 'closed', undefined],
      [1002, 'never', undefined, 'closed', undefined],
      [4500, 'never', undefined, 'closed', undefined],
      [4503, undefined, undefined, 'closed', undefined],
      [4504, 'never', undefined, 'closed', undefined],
      [4599, undefined, undefined, 'closed', undefined],
    ]) {
      const client = w.connect();
      await w.welcome();
      await w.advance(11_000);
      if (retry) await w.goodbye(code, retry, after); else await w.drop(code);
      equal([client.state.state, client.state.retryAt && client.state.retryAt - w.now, client.state.code], [state, ms, code], `${code} ${retry}`);
      client.close();
    }
  },

  async 'a server that says now at once every time is not asked in a circle'(w) {
    w.connect();
    await w.welcome();
    await w.goodbye(4012, 'now');
    equal(w.client.state.retryAt - w.now, 250);
  },

  async 'what the network and the viewer do ends a wait, but not one that the server asked for'(w) {
    for (const [hint, ends] of [['online', true], ['visible', true], ['hidden', false], ['offline', false]]) {
      const client = w.connect();
      await w.welcome();
      const give = async () => {
        w.hidden = hint === 'hidden';
        if (hint === 'visible' || hint === 'hidden') document.dispatchEvent(new Event('visibilitychange'));
        else dispatchEvent(new Event(hint));
        await settle();
      };
      await w.drop();
      await give();
      equal(client.state.state, ends ? 'connecting' : 'waiting', `${hint} after a loss`);
      client.reconnect();
      await w.welcome();
      await w.goodbye(4001, 'after', 5_000);
      await give();
      equal(client.state.state, 'waiting', `${hint} after a goodbye`);
      client.close();
      w.hidden = false;
      await give();
      equal(client.state.state, 'closed', `${hint} after close`);
    }
  },

  async 'silence is answered by a ping, and a ping without answer is a lost connection'(w) {
    w.connect();
    await w.welcome();
    await w.advance(24_000);
    await w.event('a', { 'user:7': 1 });
    await w.advance(24_000);
    equal(w.last('ping'), undefined, 'a ping after 24 s');
    await w.advance(1_000);
    await w.reply(w.last('ping').ref);
    await w.advance(25_000);
    const { socket } = w;
    await w.advance(9_999);
    equal(w.state, 'live');
    await w.advance(1);
    equal([w.state, socket.closedWith], ['waiting', 1005]);
  },

  async 'the network going away is looked into at once'(w) {
    w.connect();
    await w.welcome();
    dispatchEvent(new Event('offline'));
    dispatchEvent(new Event('offline'));
    equal(w.said().slice(1), [{ op: 'ping' }]);
  },

  async 'an attempt that takes too long is given up'(w) {
    w.connect({ getToken: () => new Promise(() => {}), token: undefined });
    await w.advance(15_000);
    equal([w.state, w.client.state.reason], ['waiting', 'the server did not answer in time']);
    w.client.close();
    w.connect();
    await w.open();
    const { socket } = w;
    await w.advance(15_000);
    equal([w.state, socket.closedWith], ['waiting', 1005]);
  },

  async 'a token is asked for at first, before the last one ends, after it did, and after it was refused'(w) {
    const asked = [];
    w.connect({ token: undefined, getToken: async (why) => asked.push(why) && `token ${asked.length}` });
    await w.welcome();
    equal(w.last('auth').token, 'token 1');
    await w.say('expiring', { in_ms: 60_000 });
    equal(w.last('auth').token, 'token 2');
    await w.reply(w.last('auth').ref, { expires_at: '2026-01-01T00:01:00Z' });
    equal(w.state, 'live');
    await w.goodbye(4005, 'now');
    equal(w.client.state.retryAt, w.now, 'at once');
    await w.advance(0);
    await w.welcome();
    equal(w.last('auth').token, 'token 3');
    await w.drop(4500);
    await w.advance(500);
    await w.open();
    equal(w.last('auth').token, 'token 4');
    equal(asked, ['first', 'expiring', 'expired', 'refused']);
    await w.drop(4500);
    equal(w.state, 'closed', 'a fresh token that is refused');
    w.client.reconnect();
    await w.welcome();
    equal(w.last('auth').token, 'token 5');
  },

  async 'a token that can not be had now is asked for again later'(w) {
    let there = false;
    w.connect({ token: undefined, getToken: async () => { if (!there) throw new Error('the session is over'); return 'token'; } });
    await settle();
    equal([w.state, w.client.state.reason], ['waiting', 'no token: the session is over']);
    there = true;
    await w.advance(500);
    await w.welcome();
    equal(w.state, 'live');
    for (const nothing of ['', null, undefined, { token: 'x' }]) {
      const client = w.connect({ token: undefined, getToken: () => nothing });
      await settle();
      equal([client.state.state, client.state.reason], ['waiting', 'no token: `getToken` gave no token'], show(nothing));
      client.close();
    }
  },

  async 'a client without a way to a token says so at once'() {
    let code = null;
    try { connect({ url: 'https://events.test' }); } catch (error) { ({ code } = error); }
    equal(code, 'no_token');
  },

  async 'a send is answered with its id and number, or refused with the code of the server'(w) {
    const client = w.connect({ task: TASK });
    await w.welcome();
    await w.joined();
    const good = client.send('chat:message', { text: 'a' }, { id: 'one' });
    equal(w.said().at(-1), { op: 'send', room: ROOM, type: 'chat:message', data: { text: 'a' }, id: 'one' });
    await w.reply(w.last('send').ref, { id: 'one', seq: 3 });
    equal(await good, { id: 'one', seq: 3 });
    const bad = client.send('task:completed', {}, { task: OTHER });
    await w.refuse(w.last('send').ref, 'forbidden');
    await fails(bad, 'forbidden');
  },

  async 'a send whose answer was lost is repeated with its id, after the rooms were joined'(w) {
    const client = w.connect({ task: TASK });
    await w.welcome();
    await w.joined();
    const sent = client.send('chat:message', { text: 'a' });
    const { id } = w.last('send');
    await w.drop();
    await w.advance(500);
    const meanwhile = client.send('chat:message', { text: 'b' });
    await w.welcome();
    equal(w.said().map(({ op }) => op), ['auth', 'join', 'send', 'send']);
    equal(w.said()[2].id, id);
    for (const { ref } of w.socket.sent.slice(2)) await w.reply(ref, { id: 'x', seq: 1 });
    equal([await now(sent), await now(meanwhile)], ['done', 'done']);
  },

  async 'an ephemeral send is of its moment: it does not wait, and is not repeated'(w) {
    const client = w.connect({ task: TASK });
    await fails(client.send('chat:typing', {}, { ephemeral: true }), 'connection_lost');
    await w.welcome();
    await w.joined();
    const sent = client.send('chat:typing', {}, { ephemeral: true, key: 'typing' });
    equal(w.said().at(-1).key, 'typing');
    await w.drop();
    await fails(sent, 'connection_lost');
    await w.advance(500);
    await w.welcome();
    equal(w.said().map(({ op }) => op), ['auth', 'join']);
  },

  async 'a send that nobody answers ends by its time'(w) {
    const client = w.connect({ task: TASK, sendTimeoutMs: 2_000 });
    await w.welcome();
    await w.joined();
    const sent = client.send('chat:message', {});
    const patient = client.send('chat:message', {}, { timeoutMs: 3_000 });
    await w.advance(2_000);
    equal([await now(sent), await now(patient)], ['timeout', 'pending']);
  },

  async 'what can not be sent is refused before it is'(w) {
    const client = w.connect({ maxPending: 2 });
    await fails(client.send('chat:message', {}), 'no_room');
    client.join(TASK);
    await w.welcome();
    await w.joined();
    await fails(client.send('chat:message', 'ä'.repeat(40_000)), 'too_large');
    const two = [client.send('chat:a', {}), client.send('chat:b', {})];
    await fails(client.send('chat:c', {}), 'too_many_pending');
    client.close();
    equal(await Promise.all(two.map(now)), ['closed', 'closed']);
    await fails(client.send('chat:d', {}), 'closed');
    let code = null;
    try { client.join('no-uuid'); } catch (error) { ({ code } = error); }
    equal(code, 'bad_request');
  },

  async 'a refused join is said to who joined, and the connection stays'(w) {
    const client = w.connect();
    const ready = client.join(TASK);
    await w.welcome();
    await w.refuse(w.last('join').ref, 'forbidden');
    await fails(ready, 'forbidden');
    equal(w.state, 'live');
    await w.drop();
    await w.advance(500);
    await w.welcome();
    equal(w.last('join'), undefined, 'another join');
  },

  async 'a room that can not be joined again is told as left'(w) {
    const client = w.connect({ task: TASK });
    const left = [];
    client.on('system:left', ({ data }) => left.push(data), { room: ROOM });
    await w.welcome();
    await w.joined();
    await w.drop();
    await w.advance(500);
    await w.welcome();
    await w.refuse(w.last('join').ref, 'gone');
    equal(left, [{ room: ROOM, reason: 'gone' }]);
  },

  async 'a room that the server takes away is told as left, and not joined again'(w) {
    const client = w.connect();
    const left = [];
    client.on('system:left', ({ data }) => left.push(data));
    client.join(TASK);
    await w.welcome();
    await w.joined();
    await w.say('left', { room: ROOM, reason: 'deleted' });
    equal(left, [{ room: ROOM, reason: 'deleted' }]);
    await w.drop();
    await w.advance(500);
    await w.welcome();
    equal(w.last('join'), undefined);
  },

  async 'many rooms at once are joined no faster than the server takes messages'(w) {
    const client = w.connect();
    const ids = Array.from({ length: 120 }, (_, i) => `550e8400-e29b-41d4-a716-${String(i).padStart(12, '0')}`);
    for (const id of ids) client.join(id);
    await w.welcome();
    equal(w.socket.sent.length, 80, 'at once');
    await w.advance(500);
    equal(w.socket.sent.length, 100, 'after half a second');
    await w.advance(1_000);
    equal(w.said().slice(1).map(({ room }) => room.slice(5)), ids);
    // Had the server taken fewer, the next attempt is slower.
    await w.say('reply', { ok: false, error: { code: 'rate_limited', message: 'too fast' } });
    equal([w.state, w.client.state.code], ['waiting', 4013]);
    await w.advance(500);
    await w.welcome();
    equal(w.socket.sent.length, 40, 'at once, afterwards');
  },

  async 'what is no event is a broken connection'(w) {
    for (const frame of ['{', 'null', '[]', '5', '{"data":1}']) {
      const client = w.connect();
      await w.welcome();
      await w.frame(frame);
      equal(client.state.state, 'waiting', frame);
      client.close();
    }
  },

  async 'reading and acknowledging name where the user room stands, and count down what is unread'(w) {
    const client = w.connect({ device: 'phone' });
    equal(client.unread, null);
    await fails(client.ack(), 'connection_lost');
    await fails(client.read({ upTo: 1 }), 'connection_lost');
    await w.welcome({ seq: 3 });
    equal(client.unread, 2);
    await w.event('news', { 'user:7': 4 }, { unread: 3 });
    equal(client.unread, 3);
    const acked = client.ack();
    equal(w.said().at(-1), { op: 'ack', epoch: 'e', seq: 4 });
    await w.reply(w.last('ack').ref, { epoch: 'e', seq: 4 });
    equal(await acked, { epoch: 'e', seq: 4 });
    const read = client.read({ ids: ['news'] });
    equal(w.said().at(-1), { op: 'read', ids: ['news'] });
    await w.event('r', { 'user:7': 5 }, { type: 'inbox:read', unread: 2, data: { ids: ['news'] } });
    await w.reply(w.last('read').ref, { unread: 2, seq: 5 });
    equal((await read).unread, 2);
    equal(client.unread, 2);
    const foreign = client.read({ upTo: 5, epoch: 'f' });
    equal(w.said().at(-1), { op: 'read', epoch: 'f', up_to: 5 });
    await w.refuse(w.last('read').ref, 'bad_request');
    await fails(foreign, 'bad_request');
    const lost = client.read({ upTo: 5 });
    equal(w.said().at(-1), { op: 'read', up_to: 5 });
    await w.drop();
    await fails(lost, 'connection_lost');
    await fails(client.ack(), 'connection_lost');
  },

  async 'a page that connects and closes all day long keeps no listener'(w) {
    const client = w.connect();
    for (let day = 0; day < 3; day += 1) {
      await w.welcome();
      await w.drop();
      await w.advance(1_000);
      await w.welcome();
      equal(w.listening(), 3, 'for online, offline and the page coming into sight');
      client.close();
      client.close();
      equal(w.listening(), 0, 'after close');
      client.reconnect();
    }
    client.close();
    await w.goodbye(4503, 'never').catch(() => {});
    equal([w.listening(), w.timers.size], [0, 0]);
  },

  async 'after close nothing is left behind, and reconnect resumes'(w) {
    const client = w.connect();
    const ready = client.join(TASK);
    await w.welcome();
    await w.joined({ seq: 2 });
    await ready;
    const { socket } = w;
    client.close();
    equal([socket.closedWith, w.state, w.timers.size], [1000, 'closed', 0]);
    await w.event('late', { [ROOM]: 3 }, {}, socket);
    equal(w.events, []);
    client.reconnect();
    await w.welcome();
    equal(w.last('join').since, { epoch: 'e', seq: 2 });
  },

  async 'a wait can be ended by hand'(w) {
    const client = w.connect();
    await w.welcome();
    await w.drop();
    client.reconnect();
    client.reconnect();
    await settle();
    equal([w.state, w.sockets.length], ['connecting', 2]);
    await w.advance(1_000);
    equal(w.sockets.length, 2, 'sockets, after the wait that was ended');
  },
};
