/** `trapline trace`: from the request to the exit status. */

import { constants } from 'node:os';

import { attach, spawn, type ProbeRequest, type Session, type Summary } from '../index.ts';
import { painterFor } from '../screen/colour.ts';
import { deliver } from './deliver.ts';
import { Ending, isForeground } from './ending.ts';
import { DescriptorMessages, ExitStatus, notice } from './messages.ts';
import { openOutput } from './output.ts';
import { renderSummary } from './summary.ts';
import type { TraceRequest } from './trace-options.ts';
import { renderAttached, renderSites } from './trace-report.ts';
import { waitingFor } from './waiting.ts';

/** After so long a command that goes on without us is spoken of. */
const PATIENCE_MILLISECONDS = 300;

const messages = new DescriptorMessages();
const paint = painterFor(process.stderr);

/**
 * Traces until something ends it, and takes everything out again.
 * @returns the exit status: the command's own, if one was started.
 * @throws TraplineError what the session throws; it has been stopped by then.
 */
export async function trace(request: TraceRequest): Promise<number> {
  const { options, command } = request;
  // Before anything is attached to: a file that can't be written leaves no trace.
  using output = openOutput(options.output);
  using ending = new Ending();
  const session = await begin(request);
  const pid = command === undefined ? undefined : session.targets[0]?.pid;
  let stopped = false;
  ending.onSignal = (signal, first): void => {
    if (pid !== undefined && !(signal === 'SIGINT' && isForeground())) pass(signal, pid);
    if (first) return;
    const what = stopped ? whatRemains(command) : 'still taking the probes out: please wait';
    messages.lines([notice(what, paint)]);
  };
  const stopping = stopWhenAsked(session, ending).finally(() => {
    stopped = true;
  });
  try {
    if (options.quiet !== true && ending.reason === undefined) await announce(session, options);
    if (options.duration !== undefined) ending.after(options.duration);
    if (options.count === true) await ending.asked;
    else await deliver(session.batches(), output, options, ending);
  } catch (error) {
    ending.ask({ kind: 'failed' });
    await stopping;
    throw error;
  }
  const summary = await stopping;
  if (options.quiet !== true) messages.lines(renderSummary(summary, paint));
  return command === undefined ? ExitStatus.good : await commandStatus(session, command, options);
}

async function begin(request: TraceRequest): Promise<Session> {
  const { probes, command, options } = request;
  const requests = probes.map((definition): ProbeRequest => {
    const action = options.count === true ? 'count' : 'record';
    return { definition, action, ...(options.exclude && { exclude: options.exclude }) };
  });
  const sessionOptions = {
    probes: requests,
    ...(options.ringSize !== undefined && { ringBytes: options.ringSize }),
    ...(options.ringBudget !== undefined && { ringBudget: options.ringBudget }),
    ...(options.perfMap && { perfMap: true }),
  };
  if (command !== undefined) return waitingFor('starting', spawn(command, sessionOptions));
  const targets = {
    ...(options.pid && { pids: options.pid }),
    ...(options.tid && { tids: options.tid }),
    ...(options.all && { all: true }),
  };
  return waitingFor('attaching', attach(targets, sessionOptions));
}

/** Stops the session for the first reason there is; the end of its targets is one. */
async function stopWhenAsked(session: Session, ending: Ending): Promise<Summary> {
  session.ended.then(
    () => ending.ask({ kind: 'target-ended' }),
    () => ending.ask({ kind: 'failed' }),
  );
  await ending.asked;
  return waitingFor('taking the probes out', session.stop());
}

async function announce(session: Session, options: TraceRequest['options']): Promise<void> {
  const { bill } = await session.summary();
  const { targets, probes } = session;
  messages.lines(renderAttached({ targets, probes, bill }, paint));
  if (options.verbose === true) messages.lines(renderSites(probes, paint));
}

/** The probes are out, and the command may live on: its end is waited for, whatever ended the trace. */
async function commandStatus(
  session: Session,
  command: readonly string[],
  options: TraceRequest['options'],
): Promise<number> {
  const timer = setTimeout(() => {
    if (options.quiet !== true) messages.lines([notice(whatRemains(command), paint)]);
  }, PATIENCE_MILLISECONDS);
  try {
    const [end] = await session.ended;
    return exitStatus(end?.status);
  } finally {
    clearTimeout(timer);
  }
}

function whatRemains(command: readonly string[] | undefined): string {
  const name = command?.[0];
  if (name === undefined) return 'the probes are out; still writing events';
  return `the probes are out; waiting for ${name} to end`;
}

/** A shell's: 128 and the signal's number for a command that a signal ended. */
export function exitStatus(
  status: { readonly code: number | undefined; readonly signal: string | undefined } | undefined,
): number {
  if (status?.code !== undefined) return status.code;
  const number = Object.entries(constants.signals).find(([name]) => name === status?.signal)?.[1];
  return number === undefined ? ExitStatus.error : 128 + number;
}

/** Hands on a signal that the command has not been sent by the terminal. */
function pass(signal: NodeJS.Signals, pid: number): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    const gone = error instanceof Error && 'code' in error && error.code === 'ESRCH';
    if (!gone) throw error;
  }
}
