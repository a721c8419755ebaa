use super::*;

#[test]
fn a_revision_begins_with_the_phase() {
    assert_eq!((Phase::Bootstrap.word(), Phase::Handover.word()), ("bootstrap", "handover"));
}
