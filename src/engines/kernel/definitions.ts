/** The events of one session in the kernel: defining, describing, filtering, switching them. */

import { closeSync, openSync } from 'node:fs';

import type { FileOffset } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { printCommand, printEventFilter, type EventPlan } from './command.ts';
import { parseFormat, type KernelFormat } from './format.ts';
import type { TracingInstance } from './instance.ts';
import { refusedCommand } from './refusal.ts';
import { attempt, lastError, NOT_SUPPORTED, writeCommand } from './tracefs.ts';

/** A place as it is defined. */
export interface DefinedPlace {
  /** Leads to the file, as we see it. */
  readonly path: string;
  readonly offset: FileOffset;
  /** Of the counter in the file that is to be raised meanwhile. */
  readonly reference: FileOffset | undefined;
  /** The definition as it was written, for messages; none for a place of our own. */
  readonly text?: string;
}

/** A place of an event with its number, by which records tell it from the event's others. */
export interface NumberedPlace extends DefinedPlace {
  readonly site: number;
}

/** A group of events. */
export class EventDefinitions {
  readonly #tracefs: string;
  readonly #group: string;

  constructor(tracefs: string, group: string) {
    this.#tracefs = tracefs;
    this.#group = group;
  }

  /** Defines one place of an event. @returns why the kernel refuses it, undefined if it doesn't. */
  define(event: string, plan: EventPlan, place: NumberedPlace): string | undefined {
    const { path, offset, reference, site } = place;
    // A path with white space can't be said, and one through /proc/PID may be gone soon: a file of ours can.
    const isPlain = /^[\w./+,=@~-]+$/.test(path) && !/^\/proc\/(?!self\/fd\/)/.test(path);
    let file: number | undefined;
    let command = '';
    try {
      file = isPlain ? undefined : attempt(`open ${path}`, () => openSync(path, 'r'));
      const shown = file === undefined ? path : `/proc/self/fd/${file}`;
      const names = { group: this.#group, event };
      command = printCommand(names, { path: shown, offset, reference }, plan, site);
      writeCommand(`${this.#tracefs}/uprobe_events`, command);
      return undefined;
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      const said = lastError(this.#tracefs, command);
      return said === undefined ? reasonOf(error) : refusedCommand(said, command, plan, place.text);
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }

  /** Takes an event away, all its places. @throws TraplineError `busy` while it is on. */
  undefine(event: string): void {
    writeCommand(`${this.#tracefs}/uprobe_events`, `-:${this.#group}/${event}`);
  }

  /**
   * Gives an event its filter in an instance.
   * @returns how its records are read
   * @throws TraplineError with the kernel's own words where it takes another filter.
   */
  describe(instance: TracingInstance, event: string, plan: EventPlan): KernelFormat {
    const format = parseFormat(instance.read(this.#file(event, 'format')), plan);
    const text = printEventFilter(plan);
    if (text !== undefined) this.#filter(instance, event, text);
    return format;
  }

  /** Switches an event on or off in an instance. @throws TraplineError as the kernel does. */
  turn(instance: TracingInstance, event: string, on: boolean): void {
    instance.write(this.#file(event, 'enable'), on ? '1' : '0');
  }

  #filter(instance: TracingInstance, event: string, text: string): void {
    try {
      instance.write(this.#file(event, 'filter'), text);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      // It has terms of ours, and no column of it is one that somebody wrote.
      const said = lastError(this.#tracefs, text);
      if (said === undefined) throw error;
      const message = `the kernel says of the filter: ${said.message}`;
      throw new TraplineError({ code: 'refused', message, cause: error });
    }
  }

  #file(event: string, name: string): string {
    return `events/${this.#group}/${event}/${name}`;
  }
}

/** Why the kernel does not take a place, for people. */
export function reasonOf({ code, errno, message }: TraplineError): string {
  if (code === 'refused') return message;
  if (errno === NOT_SUPPORTED) return 'the kernel can not probe this instruction';
  return `the kernel refuses it: ${message}`;
}
