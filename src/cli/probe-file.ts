/** `--probes FILE`: its definitions, and what becomes of the probes when it changes. */

import { readFileSync, statSync } from 'node:fs';

import { parseProbes, TraplineError, type AddedProbe, type Session } from '../index.ts';
import type { Painter } from '../screen/colour.ts';
import { errorCode, notice, renderError, type Messages } from './messages.ts';

/** How often the file is looked at, in milliseconds. */
const INTERVAL = 200;

/**
 * The definitions of a file of probes.
 * @throws TraplineError `usage` when it can't be read, `bad-definition`.
 */
export function readProbeFile(path: string): string[] {
  return parseProbes(readFile(path), path);
}

/** What is needed of a session. */
export type ReloadedSession = Pick<Session, 'probes' | 'add' | 'remove'>;

/** What the probes of a file are added with. */
export interface ReloadOptions {
  readonly path: string;
  /** The definitions of the file that are in. */
  readonly definitions: readonly string[];
  /** Definitions that are in because somebody else asked for them: the file says nothing about them. */
  readonly others: readonly string[];
  /** Makes a request of a definition. */
  readonly requestOf: (definition: string) => Parameters<Session['add']>[0];
  readonly messages: Messages;
  readonly paint: Painter;
  readonly isQuiet: boolean;
}

/**
 * Follows a file of probes: lines that are gone are removed, new ones added; nothing is done about those that
 * stay. A file that can't be read or parsed changes nothing, and is spoken of. Dispose it to end that.
 */
export class ProbeFile implements Disposable {
  readonly #session: ReloadedSession;
  readonly #options: ReloadOptions;
  readonly #others: ReadonlySet<string>;
  readonly #timer: NodeJS.Timeout;
  /** What the file looked like when it was last read, or before that. */
  #stamp = '';
  #definitions: ReadonlySet<string>;
  #content = '';
  #reloading: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(session: ReloadedSession, options: ReloadOptions) {
    this.#session = session;
    this.#options = options;
    this.#others = new Set(options.others);
    this.#definitions = new Set(options.definitions.filter((each) => !this.#others.has(each)));
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
    let wanted: ReadonlySet<string>;
    try {
      const content = readFile(this.#options.path);
      if (content === this.#content) return;
      this.#content = content;
      const definitions = parseProbes(content, this.#options.path);
      wanted = new Set(definitions.filter((each) => !this.#others.has(each)));
    } catch (error) {
      this.#complain(error);
      return;
    }
    const gone = this.#session.probes.filter(
      ({ definition }) => this.#definitions.has(definition) && !wanted.has(definition),
    );
    const news = [...wanted].filter((definition) => !this.#definitions.has(definition));
    const kept = [...this.#definitions].filter((definition) => wanted.has(definition));
    // First out, then in: a line that was changed may name the same event.
    const removed = await this.#each(gone, (probe) => this.#session.remove(probe));
    const added = await this.#each(news, (definition) => this.#add(definition));
    this.#definitions = new Set([...kept, ...added]);
    this.#tell(added.length, removed.length);
  }

  async #add(definition: string): Promise<AddedProbe> {
    return this.#session.add(this.#options.requestOf(definition));
  }

  /** Does one after another. @returns those that went well. */
  async #each<Item>(
    items: readonly Item[],
    act: (item: Item) => Promise<unknown>,
  ): Promise<Item[]> {
    const done: Item[] = [];
    for (const item of items) {
      if (this.#hasEnded) break;
      try {
        await act(item);
        done.push(item);
      } catch (error) {
        this.#complain(error);
      }
    }
    return done;
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
