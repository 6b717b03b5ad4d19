/** Servers that run, under their own clients: what they count themselves is what we see. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { attach } from '../../src/index.ts';
import { skipUnless } from '../harness/features.ts';
import { requireProgram } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget } from '../harness/target.ts';
import { assertExact, eventOf, Reading, until } from './jump-support.ts';
import { inFolder } from './real-support.ts';

/** Sends commands, and waits until the server has answered with as many lines or more. */
async function talk(socket: Socket, commands: readonly string[], answers: number): Promise<string> {
  let text = '';
  const hear = (part: string): void => {
    text += part;
  };
  socket.setEncoding('utf8').on('data', hear);
  socket.write(commands.map((command) => `${command}\r\n`).join(''));
  await until('the answers of the server', () => text.split('\r\n').length > answers);
  socket.off('data', hear);
  return text;
}

async function commandsProcessed(socket: Socket): Promise<number> {
  const text = await talk(socket, ['INFO stats'], 10);
  const count = /total_commands_processed:(\d+)/.exec(text)?.[1];
  assert.ok(count !== undefined, text);
  return Number(count);
}

test('redis under load: each command is an event, with its name', async (context) => {
  if (skipUnless(context, 'redis-server')) return;
  await inFolder(async (folder) => {
    const path = join(folder, 'socket');
    const settings = { port: '0', unixsocket: path, save: '', appendonly: 'no', dir: folder };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    await using target = await startTarget(requireProgram('redis-server'), args);
    await until('the socket of the server', () => existsSync(path));
    const socket = createConnection(path);
    await once(socket, 'connect');
    await talk(socket, ['SET trapline 1', 'GET trapline'], 3);
    const before = await snapshot(target.pid);
    {
      await using session = await attach(
        { pids: [target.pid] },
        {
          probes: [
            'processCommand@redis-server client=%di',
            { definition: 'malloc*@libc.so.6', action: 'count' },
          ],
        },
      );
      const events = new Reading(session);
      const first = await commandsProcessed(socket);
      const work = Array.from(
        { length: 2000 },
        (_, n) => `SET key${n % 50} ${'x'.repeat(1 + (n % 700))}`,
      );
      await talk(socket, work, work.length);
      const last = await commandsProcessed(socket);
      const summary = await session.stop();
      await events.done;
      assertExact(summary);
      const { hits, recorded } = eventOf(summary, 'processCommand');
      // Its first report leaves itself out, the second one counts the first.
      assert.equal(hits, last - first + 1);
      assert.equal(recorded, hits);
      assert.equal(events.count('probe_redis_server:processCommand'), hits);
    }
    assert.match(await talk(socket, ['GET key49'], 2), /x{600}/);
    assertClean(before, await snapshot(target.pid), { ran: true });
    socket.destroy();
  });
});

/** A server and its client in one process, on the loopback. The first talk loads what it needs. */
const TLS_PROGRAM = `
import socket, ssl, sys, threading
folder = sys.argv[1]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(folder + '/cert', folder + '/key')
client = ssl.create_default_context(cafile=folder + '/cert')
client.check_hostname = False
def serve(listener, count):
    with server.wrap_socket(listener.accept()[0], server_side=True) as peer:
        for n in range(count):
            assert peer.recv(100) == b'question %d' % n
            peer.sendall(b'answer %d' % n)
def talk(count):
    listener = socket.create_server(('127.0.0.1', 0))
    thread = threading.Thread(target=serve, args=(listener, count))
    thread.start()
    with client.wrap_socket(socket.create_connection(listener.getsockname())) as peer:
        for n in range(count):
            peer.sendall(b'question %d' % n)
            assert peer.recv(100) == b'answer %d' % n
    thread.join()
talk(1)
print('ready', flush=True)
sys.stdin.readline()
talk(300)
print('done', flush=True)
sys.stdin.readline()
`;

/** What one side of the talk says. */
function expected(word: string): string[] {
  return Array.from({ length: 300 }, (_, n) => `${word} ${n}`);
}

test('TLS: what a program says, before it is encrypted', async (context) => {
  if (skipUnless(context, 'openssl', 'python3')) return;
  await inFolder(async (folder) => {
    const certificate =
      'req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -batch'.split(' ');
    const made = spawnSync(
      requireProgram('openssl'),
      [...certificate, '-keyout', join(folder, 'key'), '-out', join(folder, 'cert')],
      { encoding: 'utf8' },
    );
    assert.equal(made.status, 0, made.stderr);
    const script = join(folder, 'tls.py');
    writeFileSync(script, TLS_PROGRAM);
    await using target = await startTarget(requireProgram('python3'), [script, folder]);
    await target.waitForLine('ready', 60_000);
    const before = await snapshot(target.pid);
    const said: { text: string; length: number; tid: number }[] = [];
    {
      await using session = await attach(
        { pids: [target.pid] },
        {
          probes: ['SSL_write', 'SSL_write_ex'].map(
            (name) => `${name}@libssl text=+0(%si):string length=%dx:u64`,
          ),
        },
      );
      const events = new Reading(session, (event) => {
        said.push({ text: event.string(0), length: event.number(1), tid: event.tid });
      });
      target.send('go');
      await target.waitForLine('done', 60_000);
      const summary = await session.stop();
      await events.done;
      assertExact(summary);
    }
    const named = (word: string): string[] =>
      said.map(({ text }) => text).filter((text) => text.startsWith(word));
    assert.deepEqual(named('question'), expected('question'));
    assert.deepEqual(named('answer'), expected('answer'));
    assert.equal(said.length, 600);
    for (const { text, length } of said) assert.equal(length, text.length);
    assert.equal(new Set(said.map(({ tid }) => tid)).size, 2);
    assertClean(before, await snapshot(target.pid), { ran: true });
  });
});
