/** How places can be probed by jumps, decided from their files. */

import { ensure } from '../../base/errors.ts';
import type { SitePlan, SiteRefusal } from '../../engines/jump/planner.ts';
import type { ResolvedPlace } from './place-registry.ts';

/** The plan of one of the places that were planned together. */
export type PlanOf = (place: ResolvedPlace) => SitePlan | SiteRefusal;

/** Plans the places of each file together: its text is searched once. */
export function planPlaces(places: readonly ResolvedPlace[]): PlanOf {
  const plans = new Map<ResolvedPlace, SitePlan | SiteRefusal>();
  for (const file of new Set(places.map((place) => place.file))) {
    const inFile = places.filter((place) => place.file === file);
    const found = file.planner.plan(inFile.map(({ offset }) => offset));
    inFile.forEach((place, index) => {
      const plan = found[index];
      if (plan !== undefined) plans.set(place, plan);
    });
  }
  return (place) => {
    const plan = plans.get(place);
    ensure(plan !== undefined, 'every place was planned');
    return plan;
  };
}
