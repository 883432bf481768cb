from sparseconv.cli.classes import class_names, with_class_names


def test_names_come_back():
    comments = with_class_names(["comment made by hand"], ("floor", "wall of wood"))
    assert comments[0] == "comment made by hand"
    assert class_names(comments) == ("floor", "wall of wood")


def test_new_names_replace_old_ones():
    assert class_names(with_class_names(with_class_names([], ("a", "b", "c")), ("d",))) == ("d",)


def test_what_is_no_name_is_passed_over():
    assert class_names([]) is None
    assert class_names(["comment class", "comment class x y", "comment class 5"]) is None
    assert class_names(["comment class 99999999999 huge"]) is None
    assert class_names(["comment class 1 wall"]) == ("class 0", "wall")
