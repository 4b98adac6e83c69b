//! Which rules can still match at this element? A profile's rules as one automaton a resource type, so that a
//! document is walked once whatever the number of rules.

use std::collections::{BTreeSet, HashMap};

use super::map::{FieldMap, Rule};
use super::selector::{Condition, Segment, Selector, Types};

/// A profile ready to be applied; compile it once and share it.
#[derive(Debug, Clone)]
pub struct Plan {
    profile: String,
    rules: Vec<Rule>,
    symbols: HashMap<Box<[u8]>, Symbol>,
    tries: HashMap<String, Trie>,
    /// For resource types that no rule names.
    others: Trie,
    reviewed: BTreeSet<String>,
    resource_id: Option<String>,
}

/// An element name that some rule uses.
pub(super) type Symbol = usize;

#[derive(Debug, Clone)]
pub(super) struct Trie {
    nodes: Vec<TrieNode>,
}

#[derive(Debug, Clone, Default)]
struct TrieNode {
    /// Sorted by symbol.
    named: Vec<(Symbol, Edge)>,
    any: Vec<Edge>,
    /// The node for `**` from here.
    deep: Option<usize>,
    /// Stays active through every element: it is the node of a `**`.
    stays: bool,
    /// The rule that ends here.
    rule: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    conditions: Vec<Condition>,
    to: usize,
}

/// A resource type as rules see it.
enum Type<'m> {
    Named {
        kind: &'m String,
        is_about_patients: bool,
    },
    /// One that the map does not name.
    Other,
}

impl Plan {
    pub(super) fn compile(map: &FieldMap, profile: &str) -> Self {
        let rules: Vec<Rule> =
            map.rules.iter().filter(|rule| rule.profiles.iter().any(|p| p == profile)).cloned().collect();
        let mut symbols = HashMap::new();
        for segment in rules.iter().flat_map(|rule| &rule.selector.segments) {
            if let Segment::Element { name: Some(name), .. } = segment {
                let next = symbols.len();
                symbols.entry(name.as_bytes().into()).or_insert(next);
            }
        }
        // A type that any profile has rules for has been looked at, whatever this profile takes of it.
        let named = map.rules.iter().flat_map(|rule| rule.selector.named_types()).chain(&map.not_about_patients);
        let named: BTreeSet<String> = named.cloned().collect();
        let trie = |kind: &String| {
            let kind = Type::Named { kind, is_about_patients: !map.not_about_patients.contains(kind) };
            Trie::of(&rules, &symbols, &kind)
        };
        let tries = named.iter().map(|kind| (kind.clone(), trie(kind))).collect();
        let others = Trie::of(&rules, &symbols, &Type::Other);
        let reviewed = named.union(&map.reviewed).cloned().collect();
        Self { profile: profile.to_owned(), rules, symbols, tries, others, reviewed, resource_id: None }
    }

    /// The plan for a document whose outermost resource has no id of its own.
    #[must_use]
    pub fn with_resource_id(mut self, id: &str) -> Self {
        self.resource_id = Some(id.to_owned());
        self
    }

    /// The profile's name.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The profile's rules in the map's order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn resource_id(&self) -> Option<&str> {
        self.resource_id.as_deref()
    }

    pub(super) fn symbol(&self, name: &[u8]) -> Option<Symbol> {
        self.symbols.get(name).copied()
    }

    pub(super) fn trie(&self, kind: &str) -> &Trie {
        self.tries.get(kind).unwrap_or(&self.others)
    }

    /// Whether somebody has decided what is PHI in resources of this type.
    pub(super) fn has_reviewed(&self, kind: &str) -> bool {
        self.reviewed.contains(kind)
    }
}

impl Selector {
    fn named_types(&self) -> impl Iterator<Item = &String> {
        match &self.types {
            Types::Any => [].iter(),
            Types::Named(types) => types.iter(),
        }
    }

    /// FLD-20: `*` is every type but those that are not about patients.
    fn looks_into(&self, kind: &Type<'_>) -> bool {
        match (&self.types, kind) {
            (Types::Any, Type::Named { is_about_patients, .. }) => *is_about_patients,
            (Types::Any, Type::Other) => true,
            (Types::Named(types), Type::Named { kind, .. }) => types.contains(kind),
            (Types::Named(_), Type::Other) => false,
        }
    }
}

impl Trie {
    fn of(rules: &[Rule], symbols: &HashMap<Box<[u8]>, Symbol>, kind: &Type<'_>) -> Self {
        let mut trie = Self { nodes: vec![TrieNode::default()] };
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.selector.looks_into(kind)) {
            let end = rule.selector.segments.iter().fold(0, |from, segment| trie.extend(from, segment, symbols));
            if let Some(node) = trie.nodes.get_mut(end) {
                // FLD-23: of two rules for one element the earlier one counts.
                node.rule = node.rule.or(Some(index));
            }
        }
        for node in &mut trie.nodes {
            node.named.sort_by_key(|(symbol, _)| *symbol);
        }
        trie
    }

    /// The node behind a segment, made if it is not there yet.
    fn extend(&mut self, from: usize, segment: &Segment, symbols: &HashMap<Box<[u8]>, Symbol>) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(from) else { return from };
        let to = match segment {
            Segment::AnyDepth => *node.deep.get_or_insert(fresh),
            Segment::Element { name, conditions } => {
                let symbol = name.as_ref().and_then(|name| symbols.get(name.as_bytes()).copied());
                node.edge(symbol, Edge { conditions: conditions.clone(), to: fresh })
            }
        };
        if to == fresh {
            self.nodes.push(TrieNode { stays: *segment == Segment::AnyDepth, ..TrieNode::default() });
        }
        to
    }

    /// Adds the nodes that are active at a resource before its first element.
    pub(super) fn enter(&self, active: &mut Vec<usize>) {
        self.activate(0, active, active.len());
    }

    /// Adds the nodes that are active at an element, given those of its parent, and says which rule ends here.
    pub(super) fn advance(
        &self,
        symbol: Option<Symbol>,
        parent: std::ops::Range<usize>,
        active: &mut Vec<usize>,
        holds: impl Fn(&Condition) -> bool,
    ) -> Option<usize> {
        let from = active.len();
        for at in parent {
            let Some((index, node)) = active.get(at).and_then(|index| Some((*index, self.nodes.get(*index)?))) else {
                continue;
            };
            if node.stays {
                self.activate(index, active, from);
            }
            let named = symbol.map_or(&[] as &[_], |symbol| node.edges_of(symbol));
            for edge in named.iter().map(|(_, edge)| edge).chain(&node.any) {
                if edge.conditions.iter().all(&holds) {
                    self.activate(edge.to, active, from);
                }
            }
        }
        active.iter().skip(from).filter_map(|index| self.nodes.get(*index)?.rule).min()
    }

    /// A node is active once at most, so a hostile document cannot make the set grow beyond the trie.
    fn activate(&self, index: usize, active: &mut Vec<usize>, from: usize) {
        let mut next = Some(index);
        while let Some(index) = next {
            if active.iter().skip(from).any(|there| *there == index) {
                return;
            }
            active.push(index);
            next = self.nodes.get(index).and_then(|node| node.deep);
        }
    }
}

impl TrieNode {
    /// The target of the edge, which is added unless an equal one is there.
    fn edge(&mut self, symbol: Option<Symbol>, edge: Edge) -> usize {
        let same = |there: &Edge| there.conditions == edge.conditions;
        let existing = match symbol {
            Some(symbol) => self.named.iter().find(|(s, there)| *s == symbol && same(there)).map(|(_, there)| there),
            None => self.any.iter().find(|there| same(there)),
        };
        if let Some(existing) = existing {
            return existing.to;
        }
        let to = edge.to;
        match symbol {
            Some(symbol) => self.named.push((symbol, edge)),
            None => self.any.push(edge),
        }
        to
    }

    fn edges_of(&self, symbol: Symbol) -> &[(Symbol, Edge)] {
        let from = self.named.partition_point(|(s, _)| *s < symbol);
        let to = self.named.partition_point(|(s, _)| *s <= symbol);
        self.named.get(from..to).unwrap_or_default()
    }
}
