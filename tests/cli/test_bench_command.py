from sparseconv.cli.main import main


def test_words_are_handed_over_as_they_are(fake):
    seen = []

    def run(words):
        seen.append(words)
        return 3

    fake("sparseconv.bench.runner", main=run)
    assert main(["bench", "--list", "-x", "conv", "--help"]) == 3
    assert main(["bench"]) == 3
    assert seen == [["--list", "-x", "conv", "--help"], []]
