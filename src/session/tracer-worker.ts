/**
 * The entry of the tracer's thread: one request after another, each answered by a value or an error; and what tasks have to
 * tell that are held.
 */

import {
  parentPort,
  receiveMessageOnPort,
  workerData,
  type MessagePort,
} from 'node:worker_threads';

import { ensure, TraplineError } from '../base/errors.ts';
import { enableKillSwitch } from '../sys/call.ts';
import { shareCommands } from '../sys/commands.ts';
import { expectsAnybody } from '../process/expected.ts';
import { held } from '../process/held.ts';
import { TRACER_NAME } from '../process/permission.ts';
import { Waker } from '../process/waker.ts';
import { nameThread } from '../sys/signals.ts';
import { waitForAny } from '../sys/wait.ts';
import type { NoticeMessage, ReplyMessage, RequestMessage, TracerData } from './protocol.ts';
import { Tracer } from './tracer.ts';

const port = parentPort;
ensure(port !== null, 'the tracer runs in a thread of its own');
enableKillSwitch();
nameThread(TRACER_NAME);
const { commands, wake } = workerData as TracerData; // given by TracerClient
shareCommands(commands);
const waker = new Waker(wake);
let tracer = newTracer(port);

port.on('message', (request: RequestMessage) => {
  reply(port, request);
  // While tasks are held nobody else may wait for them, and nothing but a wait tells of them: messages come in between.
  while (tracer.isHolding && !waker.isEnding) {
    const next = receiveMessageOnPort(port);
    if (next === undefined) tracer.attend();
    // Whatever comes by this port is a request.
    else reply(port, next.message as RequestMessage);
  }
  tracer.endTurn();
});

function newTracer(to: MessagePort): Tracer {
  return new Tracer(waker, (notice) => to.postMessage({ notice } satisfies NoticeMessage));
}

/** See ThreadMethods. */
function renew(to: MessagePort): boolean {
  if (!tracer.hasEnded || !isUntouched()) return false;
  held.renew();
  nameThread(TRACER_NAME);
  tracer = newTracer(to);
  return true;
}

/** Whether nobody is left who is traced by this thread, or was started by it, and no answer is owed to anybody. */
function isUntouched(): boolean {
  return held.isEmpty && !expectsAnybody() && waitForAny({ poll: true })?.kind === 'none';
}

function reply(to: MessagePort, request: RequestMessage): void {
  to.postMessage(answer(to, request));
}

function answer(
  to: MessagePort,
  { id, method, arguments: parameters }: RequestMessage,
): ReplyMessage {
  try {
    if (method === 'renew') return { id, value: renew(to) };
    // The client's types have held both sides together: see TracerClient.call.
    const run = tracer[method] as (...given: readonly unknown[]) => unknown;
    return { id, value: run.apply(tracer, [...parameters]) };
  } catch (error) {
    // Errors of ours keep their parts; any other is a defect, and goes over with its stack.
    return { id, error: error instanceof TraplineError ? error.toDetails() : error };
  }
}
