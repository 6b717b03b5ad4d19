/** The machine that figures were measured on, and whether it was quiet. */

import { readFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long the machine is watched, in milliseconds. */
const WATCH_MILLISECONDS = 500;
/** Above this share of all processors somebody else is at work. */
const QUIET_SHARE = 0.04;
const QUIET_LOAD = 0.5;

/** What has to be known of a machine beside its figures. */
export interface MachineFacts {
  readonly processor: string;
  readonly processors: number;
  readonly isVirtual: boolean;
  readonly kernel: string;
  readonly node: string;
  readonly clockSource: string;
  /** Of the last minute. */
  readonly load: number;
  /** Share of all processors that were busy while we did nothing. */
  readonly busy: number;
}

/** Watches the machine for a moment. */
export async function readMachine(): Promise<MachineFacts> {
  const before = processorTimes();
  await sleep(WATCH_MILLISECONDS);
  const after = processorTimes();
  const source = '/sys/devices/system/clocksource/clocksource0/current_clocksource';
  const processors = cpus();
  return {
    processor: processors[0]?.model.trim() ?? 'unknown',
    processors: processors.length,
    isVirtual: /^flags\s*:.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')),
    kernel: release(),
    node: process.version,
    clockSource: readFileSync(source, 'utf8').trim(),
    load: loadavg()[0] ?? 0,
    busy: (after.busy - before.busy) / Math.max(1, after.all - before.all),
  };
}

/** Whether figures taken now say something. */
export function isQuiet({ busy, load }: MachineFacts): boolean {
  return busy <= QUIET_SHARE && load <= QUIET_LOAD;
}

/** The facts in one line. */
export function describeMachine(facts: MachineFacts): string {
  const kind = facts.isVirtual ? 'virtual machine' : 'machine';
  return (
    `${facts.processors}-processor ${kind} (${facts.processor}), Linux ${facts.kernel}, ` +
    `clock source ${facts.clockSource}, Node ${facts.node}; ` +
    `load average ${facts.load.toFixed(2)}, ${(facts.busy * 100).toFixed(0)} % busy before the first round`
  );
}

/** The first line of /proc/stat, in ticks (proc(5)): user nice system idle iowait irq softirq steal … */
function processorTimes(): { busy: number; all: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  const all = ticks.reduce((sum, each) => sum + each, 0);
  return { all, busy: all - (ticks[3] ?? 0) - (ticks[4] ?? 0) };
}
