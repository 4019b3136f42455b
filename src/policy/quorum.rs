//! Requirements are met by distinct people: a maximum bipartite matching of people to open places.

/// One requirement as the matching sees it.
#[derive(Clone, Debug)]
pub struct Places {
    /// How many people it takes.
    pub count: usize,
    /// Which people may take a place, by their index.
    pub candidates: Vec<usize>,
}

/// Gives as many of `people` a place as possible, each at most one (augmenting paths, Kuhn 1955), and returns for each
/// requirement the people who hold its places. Earlier people keep a place once they have one.
pub fn assign(requirements: &[Places], people: usize) -> Vec<Vec<usize>> {
    let mut held: Vec<Vec<usize>> = vec![vec![]; requirements.len()];
    for person in 0..people {
        let mut tried = vec![false; requirements.len()];
        place(person, requirements, &mut held, &mut tried);
    }
    held
}

/// Finds a place for `person`, moving others to another of theirs where that frees one.
fn place(person: usize, requirements: &[Places], held: &mut [Vec<usize>], tried: &mut [bool]) -> bool {
    for (r, requirement) in requirements.iter().enumerate() {
        if tried[r] || !requirement.candidates.contains(&person) {
            continue;
        }
        tried[r] = true;
        if held[r].len() < requirement.count {
            held[r].push(person);
            return true;
        }
        for seat in 0..held[r].len() {
            let occupant = held[r][seat];
            if place(occupant, requirements, held, tried) {
                held[r][seat] = person;
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn placed(requirements: &[Places], people: usize) -> usize {
        assign(requirements, people).iter().map(Vec::len).sum()
    }

    /// The most places that can be filled, by trying everything.
    fn brute_force(requirements: &[Places], left: &mut Vec<usize>, person: usize, people: usize) -> usize {
        if person == people {
            return 0;
        }
        let mut best = brute_force(requirements, left, person + 1, people);
        for (r, requirement) in requirements.iter().enumerate() {
            if left[r] > 0 && requirement.candidates.contains(&person) {
                left[r] -= 1;
                best = best.max(1 + brute_force(requirements, left, person + 1, people));
                left[r] += 1;
            }
        }
        best
    }

    #[test]
    fn overlapping_groups_do_not_block_each_other() {
        // Person 0 is in both sets, person 1 only in the first: both requirements can be met.
        let requirements = [Places { count: 1, candidates: vec![0, 1] }, Places { count: 1, candidates: vec![0] }];
        assert_eq!(assign(&requirements, 2), [vec![1], vec![0]]);
        assert_eq!(placed(&requirements, 1), 1, "one person never fills two places");
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(raw in prop::collection::vec((0..3usize, prop::collection::vec(0..5usize, 0..5)), 0..4), people in 0..5usize) {
            let requirements: Vec<_> = raw.into_iter().map(|(count, candidates)| Places { count, candidates }).collect();
            let mut left = requirements.iter().map(|r| r.count).collect();
            let held = assign(&requirements, people);
            prop_assert_eq!(held.iter().map(Vec::len).sum::<usize>(), brute_force(&requirements, &mut left, 0, people));
            let mut seen: Vec<_> = held.iter().flatten().collect();
            let all = seen.len();
            seen.sort();
            seen.dedup();
            prop_assert_eq!(seen.len(), all, "nobody holds two places");
            for (places, requirement) in held.iter().zip(&requirements) {
                prop_assert!(places.len() <= requirement.count && places.iter().all(|p| requirement.candidates.contains(p)));
            }
        }
    }
}
