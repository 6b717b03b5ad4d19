/** Why and when a trace ends: the first reason counts, later signals are answered with words. */

import { readFileSync } from 'node:fs';

/** What ends a trace. */
export type EndReason =
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals }
  | { readonly kind: 'count' | 'duration' | 'reader-gone' | 'target-ended' | 'failed' };

/** Where signals come from: `process` fits. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Waits for the first reason to end. Until it is disposed it holds signal handlers, and keeps Node from
 * ending because nothing else is to be done.
 */
export class Ending implements Disposable {
  /** Resolves with the first reason; never rejects. */
  readonly asked: Promise<EndReason>;
  /** Called with each signal, the first one and those after it. */
  onSignal: (signal: NodeJS.Signals, first: boolean) => void = () => {};
  readonly #source: SignalSource;
  readonly #listener: (signal: NodeJS.Signals) => void;
  #resolve: (reason: EndReason) => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  readonly #keepAlive: NodeJS.Timeout = setInterval(() => {}, 0x7fff_ffff);
  #reason: EndReason | undefined;

  constructor(source: SignalSource = process) {
    this.asked = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#source = source;
    this.#listener = (signal): void => {
      const first = this.#reason === undefined;
      this.ask({ kind: 'signal', signal });
      this.onSignal(signal, first);
    };
    for (const signal of SIGNALS) source.on(signal, this.#listener);
  }

  /** The first reason, if there was one. */
  get reason(): EndReason | undefined {
    return this.#reason;
  }

  /** Gives a reason; only the first one counts. */
  ask(reason: EndReason): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#resolve(reason);
  }

  /** Ends after a time in nanoseconds, counted from now. */
  after(nanoseconds: number): void {
    const milliseconds = Math.max(1, Math.round(nanoseconds / 1e6));
    this.#timer = setTimeout(() => this.ask({ kind: 'duration' }), milliseconds);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    clearInterval(this.#keepAlive);
    for (const signal of SIGNALS) this.#source.off(signal, this.#listener);
  }
}

/**
 * Whether a key of the terminal (Ctrl-C) that reaches us reaches a command that we started too: whether
 * our process group is the terminal's foreground one. proc(5), /proc/PID/stat, fields 5 and 8.
 * @param stat the text of /proc/self/stat
 */
export function isForeground(stat: string = readFileSync('/proc/self/stat', 'latin1')): boolean {
  // The name, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const group = Number(fields[2]);
  const foreground = Number(fields[5]);
  return group > 0 && group === foreground;
}
