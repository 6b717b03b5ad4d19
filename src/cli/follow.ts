/** One trace, from the moment the probes are in until everything is out again. */

import { constants } from 'node:os';

import type { Session, Summary } from '../index.ts';
import type { Painter } from '../screen/colour.ts';
import { deliver } from './deliver.ts';
import { isForeground, type Ending } from './ending.ts';
import { ExitStatus, notice, renderError, type Messages } from './messages.ts';
import { renderSummary } from './summary.ts';
import { SymbolNames } from './symbols.ts';
import type { TraceRequest } from './trace-options.ts';
import { choosingOf, renderAttached, renderSites, renderUseless } from './trace-report.ts';
import { waitingFor } from './waiting.ts';

/** After so long a command that goes on without us is spoken of. */
const PATIENCE_MILLISECONDS = 300;

const HOLDING =
  'following: held by ptrace, with all that is forked and executed, until the end; no debugger can attach (--no-follow)';

/** What is needed of a session. */
export type FollowedSession = Pick<
  Session,
  | 'targets'
  | 'command'
  | 'isFollowing'
  | 'probes'
  | 'firstStops'
  | 'ended'
  | 'batches'
  | 'stop'
  | 'symbolize'
>;

/** What a trace has around it. */
export interface Surroundings {
  readonly output: { write(bytes: Uint8Array): Promise<void> };
  readonly ending: Ending;
  readonly messages: Messages;
  readonly paint: Painter;
  /** Tells of what has been found meanwhile and not been told: before the sums. */
  readonly tellRest: () => void;
  /** Sends a signal: `process.kill` fits. */
  readonly kill: (pid: number, signal: NodeJS.Signals) => unknown;
}

/**
 * Shows a session's events until something ends it. The session is always stopped, whatever fails.
 * @returns the exit status: the command's own, if one was started.
 * @throws what the session or the output throws.
 */
export async function follow(
  request: TraceRequest,
  session: FollowedSession,
  around: Surroundings,
): Promise<number> {
  const { ending, messages, paint } = around;
  const { options, command } = request;
  answerSignals(request, session, around);
  const stopping = stopWhenAsked(session, ending);
  let failure: { readonly error: unknown } | undefined;
  const showing = show(request, session, around).catch((error: unknown) => {
    failure = { error };
    ending.ask({ kind: 'failed' });
  });
  let summary: Summary;
  try {
    summary = await stopping;
  } catch (error) {
    if (failure !== undefined) messages.lines(renderError(failure.error, paint));
    throw error;
  }
  await showing;
  if (failure !== undefined) throw failure.error;
  if (ending.reason?.kind === 'failed') await session.ended; // rejected: throws why
  around.tellRest();
  if (options.quiet !== true) messages.lines(renderSummary(summary, paint));
  return command === undefined ? ExitStatus.good : await commandStatus(session, request, around);
}

async function show(
  { options }: TraceRequest,
  session: FollowedSession,
  { ending, output, messages, paint }: Surroundings,
): Promise<void> {
  if (options.quiet !== true && ending.reason === undefined) {
    const { targets, probes, firstStops } = session;
    const { probes: file, exclude = [] } = options;
    const choosing = choosingOf(options);
    const attached = {
      targets,
      probes,
      stops: firstStops,
      choosing,
      ...(file !== undefined && { file }),
    };
    messages.lines(renderAttached(attached, paint));
    // Lines that come may have globs.
    if (file === undefined) messages.lines(renderUseless(exclude, probes, paint));
    if (session.isFollowing) messages.lines([notice(HOLDING, paint)]);
    if (options.verbose === true) messages.lines(renderSites(probes, paint));
  }
  if (options.duration !== undefined) ending.after(options.duration);
  if (options.count === true) await ending.asked;
  else await deliver(session.batches(), output, options, ending, new SymbolNames(session));
}

/** Stops the session for the first reason there is; the end of its targets is one. */
async function stopWhenAsked(session: FollowedSession, ending: Ending): Promise<Summary> {
  session.ended.then(
    () => ending.ask({ kind: 'target-ended' }),
    () => ending.ask({ kind: 'failed' }),
  );
  await ending.asked;
  return waitingFor('taking the probes out', session.stop());
}

/** Hands signals on to a command that they did not reach, and answers all but the first. */
function answerSignals(
  { command }: TraceRequest,
  session: FollowedSession,
  { ending, messages, paint, kill }: Surroundings,
): void {
  const pid = command === undefined ? undefined : session.command;
  const pass = (signal: NodeJS.Signals): void => {
    // The terminal's Ctrl-C has reached it already; twice could mean something else to it.
    if (pid !== undefined && !(signal === 'SIGINT' && isForeground())) send(kill, pid, signal);
  };
  ending.onSignal = (signal, first): void => {
    pass(signal);
    if (first) return;
    const wait = command === undefined ? '' : `, then waiting for ${command[0]} to end`;
    messages.lines([notice(`still taking the probes out${wait}`, paint)]);
  };
  // One that came while the command was being started.
  if (ending.reason?.kind === 'signal') pass(ending.reason.signal);
}

function send(kill: Surroundings['kill'], pid: number, signal: NodeJS.Signals): void {
  try {
    kill(pid, signal);
  } catch (error) {
    const gone = error instanceof Error && 'code' in error && error.code === 'ESRCH';
    if (!gone) throw error;
  }
}

/** The probes are out, and the command may live on: its end is waited for, whatever ended the trace. */
async function commandStatus(
  session: FollowedSession,
  { command, options }: TraceRequest,
  { messages, paint }: Surroundings,
): Promise<number> {
  const timer = setTimeout(() => {
    const text = `the probes are out; waiting for ${command?.[0]} to end`;
    if (options.quiet !== true) messages.lines([notice(text, paint)]);
  }, PATIENCE_MILLISECONDS);
  try {
    const ends = await session.ended;
    return exitStatus(ends.find(({ pid }) => pid === session.command)?.status);
  } finally {
    clearTimeout(timer);
  }
}

/** A shell's: 128 and the signal's number for a command that a signal ended. */
export function exitStatus(
  status: { readonly code: number | undefined; readonly signal: string | undefined } | undefined,
): number {
  if (status?.code !== undefined) return status.code;
  const number = Object.entries(constants.signals).find(([name]) => name === status?.signal)?.[1];
  return number === undefined ? ExitStatus.error : 128 + number;
}
