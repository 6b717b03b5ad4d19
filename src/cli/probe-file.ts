/** `--probes FILE`: its definitions, and what becomes of the probes when it changes. */

import { readFileSync, statSync } from 'node:fs';

import { parseProbes, TraplineError, type ListedProbe, type ProbeRequest } from '../index.ts';
import type { Painter } from '../screen/colour.ts';
import { errorCode, notice, renderError, type Messages } from './messages.ts';
import { change, type ChangedSession } from './probe-change.ts';

/** How often the file is looked at, in milliseconds. */
const INTERVAL = 200;

/**
 * The probes of a file.
 * @throws TraplineError `usage` when it can't be read, `bad-definition`.
 */
export function readProbeFile(path: string): ListedProbe[] {
  return parseProbes(readFile(path), path);
}

/** What the probes of a file are added with. */
export interface ReloadOptions {
  readonly path: string;
  /** The lines of the file that are in. */
  readonly lines: readonly ListedProbe[];
  /** Definitions that are in because somebody else asked for them: the file says nothing about them. */
  readonly others: readonly string[];
  /** Makes a request of a line. */
  readonly requestOf: (line: ListedProbe) => ProbeRequest;
  readonly messages: Messages;
  readonly paint: Painter;
  readonly isQuiet: boolean;
}

/**
 * Follows a file of probes: lines that are gone are removed, new ones added; nothing is done about those that
 * stay. A file that can't be read or parsed, or of which a new line can't be added, changes nothing, and is spoken of.
 * Dispose it to end that.
 */
export class ProbeFile implements Disposable {
  readonly #session: ChangedSession;
  readonly #options: ReloadOptions;
  readonly #others: ReadonlySet<string>;
  readonly #timer: NodeJS.Timeout;
  /** What the file looked like when it was last read, or before that. */
  #stamp = '';
  /** Its lines that are in, by their definitions. */
  #lines: ReadonlyMap<string, ListedProbe>;
  #content = '';
  #reloading: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(session: ChangedSession, options: ReloadOptions) {
    this.#session = session;
    this.#options = options;
    this.#others = new Set(options.others);
    this.#lines = this.#ours(options.lines);
    this.#timer = setInterval(() => this.#look(), INTERVAL).unref();
    // It may have changed between its reading and now.
    this.#look();
  }

  [Symbol.dispose](): void {
    this.#hasEnded = true;
    clearInterval(this.#timer);
  }

  /** Resolves when what is under way is done. */
  get settled(): Promise<void> {
    return this.#reloading;
  }

  /**
   * Not by fs.watchFile: it first looks in a thread of its own, some time after it was asked, and what changes until then is never
   * told.
   */
  #look(): void {
    const stamp = stampOf(this.#options.path);
    if (stamp === this.#stamp) return;
    // Before it is read: what changes from here on is read again.
    this.#stamp = stamp;
    this.#reloading = this.#reloading.then(() => this.#reload());
  }

  async #reload(): Promise<void> {
    if (this.#hasEnded) return;
    let wanted: ReadonlyMap<string, ListedProbe>;
    try {
      const content = readFile(this.#options.path);
      if (content === this.#content) return;
      this.#content = content;
      wanted = this.#ours(parseProbes(content, this.#options.path));
    } catch (error) {
      this.#complain(error);
      return;
    }
    const gone = this.#session.probes.flatMap((probe) => {
      const line = this.#lines.get(probe.definition);
      return line === undefined || wanted.has(probe.definition) ? [] : [{ line, probe }];
    });
    const news = [...wanted.values()].filter(({ definition }) => !this.#lines.has(definition));
    const { requestOf } = this.#options;
    const { added, removed, problems } = await change(this.#session, { gone, news, requestOf });
    const out = new Set(removed.map(({ definition }) => definition));
    const left = [...this.#lines.values()].filter(({ definition }) => !out.has(definition));
    this.#lines = this.#ours([...left, ...added]);
    for (const problem of problems) this.#complain(problem);
    if (problems.length > 0 && added.length < news.length) this.#tellKept(removed.length);
    else this.#tell(added.length, removed.length);
  }

  /** Those that nobody else has asked for. */
  #ours(lines: readonly ListedProbe[]): ReadonlyMap<string, ListedProbe> {
    const ours = lines.filter(({ definition }) => !this.#others.has(definition));
    return new Map(ours.map((line) => [line.definition, line]));
  }

  #tellKept(lost: number): void {
    const { messages, paint, path } = this.#options;
    if (this.#hasEnded) return;
    const what = lost === 0 ? 'the probes stay as they were' : `${lost} removed, none added`;
    messages.lines([notice(`${path}: ${what}, until it is right`, paint)]);
  }

  #tell(added: number, removed: number): void {
    const { messages, paint, path, isQuiet } = this.#options;
    if (isQuiet || this.#hasEnded || added + removed === 0) return;
    messages.lines([notice(`${path}: ${added} added, ${removed} removed`, paint)]);
  }

  /** A mistake in the file does not end the trace. What comes after its end is of no interest. */
  #complain(error: unknown): void {
    if (this.#hasEnded) return;
    const { messages, paint } = this.#options;
    messages.lines(renderError(error, paint));
  }
}

/** What differs when a file has been changed, or another one has its path. */
function stampOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch (error) {
    // Whoever reads it is told so, too, and says it.
    return errorCode(error) ?? String(error);
  }
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const why = errorCode(error) ?? String(error);
    throw new TraplineError({
      code: 'usage',
      message: `the file of probes ${path} can't be read (${why})`,
      cause: error,
    });
  }
}
