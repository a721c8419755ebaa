use super::*;
use crate::tree::Branch;

fn read(text: &str) -> Tree {
    parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn problem(tree: &Tree) -> EmitProblem {
    match emit(tree) {
        Err(Error::Emit { format: Format::Binary, problem, .. }) => problem,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was written"),
    }
}

#[test]
fn the_bytes_under_data_are_the_file() {
    assert_eq!(emit(&read(r#"{"data":"a\nb\u0000","other":1}"#)).unwrap().bytes(), b"a\nb\0");
    assert_eq!(emit(&read(r#"{"data":""}"#)).unwrap().bytes(), b"");
    let bytes = Tree { documents: vec![Branch::from_entries([("data".to_owned(), Node::text(b"\xff\0".to_vec()))])] };
    assert_eq!(emit(&bytes).unwrap().bytes(), b"\xff\0");
}

#[test]
fn other_entries_stay_in_the_tree_for_the_mac() {
    assert_eq!(read(r#"{"data":"x","other":1,"sops":{}}"#).documents[0].entries().count(), 3);
}

#[test]
fn data_must_be_one_text() {
    for file in
        ["{}", r#"{"data":1}"#, r#"{"data":null}"#, r#"{"data":["x"]}"#, r#"{"data":{"data":"x"}}"#, r#"{"Data":"x"}"#]
    {
        assert_eq!(problem(&read(file)), EmitProblem::NoData, "{file}");
    }
}

#[test]
fn several_documents_are_refused() {
    let two = Tree { documents: vec![Branch::default(), Branch::default()] };
    assert_eq!(problem(&two), EmitProblem::Documents);
}
