"""Token ids against transformers' CodeGenTokenizer, which defines them."""
import os
import random
import sysconfig

import pytest
import transformers

from tokenizer import load_tokenizer, write_hf_tokenizer


@pytest.fixture(scope="module")
def both(ranks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_hf_tokenizer(str(folder))
    return load_tokenizer("codegen"), transformers.AutoTokenizer.from_pretrained(folder)


def test_the_published_ids(ranks):
    encoding = load_tokenizer("codegen")
    assert encoding.encode_ordinary("    return x") == [50284, 7783, 2124]
    assert encoding.encode_ordinary(" ") == [220] and encoding.encode_ordinary("\t") == [197]
    assert encoding.encode_ordinary(" " * 31) == [50257] and encoding.encode_ordinary("  ") == [50286]
    assert encoding.encode_ordinary("\t" * 9) == [50287] and encoding.encode_ordinary("\t\t") == [50294]
    assert encoding.n_vocab == 50295 and encoding.eot_token == 50256


def test_the_written_files_are_a_codegen_tokenizer(both):
    assert isinstance(both[1], transformers.CodeGenTokenizer) and len(both[1]) == 50295 and both[1].eos_token_id == 50256


def test_ids_equal_transformers_on_every_second_file_of_the_standard_library_but_its_tests(both):
    ours, theirs = both
    texts = []
    for folder, names, files in os.walk(sysconfig.get_paths()["stdlib"]):
        names[:] = [name for name in names if name not in ("site-packages", "dist-packages", "test", "tests")]
        for file in files:
            if file.endswith((".py", ".txt")):
                with open(os.path.join(folder, file), encoding="utf-8", errors="replace") as f:
                    texts.append(f.read())
    assert len(texts) > 500
    texts = texts[::2]  # the other half takes four seconds more
    wrong = 0
    for i in range(0, len(texts), 64):
        expected = theirs(texts[i:i + 64])["input_ids"]
        wrong += sum(a != b for a, b in zip(expected, map(ours.encode_ordinary, texts[i:i + 64])))
    assert wrong == 0


def test_ids_equal_transformers_on_random_strings(both):
    ours, theirs = both
    rng = random.Random(0)
    pieces = [" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u200b", "a", "B", "don't", "'ll", "'", "1", "²",
              "ⅷ", "é", "e\u0301", "ß", "中", "ｱ", "अ", "😀", "👩‍👩", "_", "#", "(", "\x00", "\ufeff", "\U000e0001", "İ", "ǅ", "ſ"]
    texts = ["".join(rng.choices(pieces, weights=[12, 6, 8, 8] + [2] * (len(pieces) - 4), k=rng.randint(1, 40))) for _ in range(10_000)]
    texts += [" " * a + x + "\t" * b + y for a in range(0, 70, 3) for b in range(0, 24, 2) for x in ("", "\n", "a") for y in ("", " ", "b")]
    texts += ["".join(map(chr, rng.choices([c for c in range(0x3000) if not 0xD800 <= c < 0xE000], k=30))) for _ in range(2_500)]
    expected = theirs(texts)["input_ids"]
    assert sum(a != b for a, b in zip(expected, map(ours.encode_ordinary, texts))) == 0


def test_decoding_gives_the_text_back(ranks):
    encoding = load_tokenizer("codegen")
    text = "".join(chr(c) for c in range(0x3000) if not 0xD800 <= c < 0xE000) + "   \t\t  \n<|endoftext|>"
    assert encoding.decode(encoding.encode_ordinary(text)) == text
    assert encoding.eot_token not in encoding.encode_ordinary(text)


def test_the_bytes_tokenizer_is_utf8():
    encoding = load_tokenizer("bytes")
    text = "def f():\n\treturn 'é中😀'  # <|endoftext|>\r\n" * 50
    assert encoding.encode_ordinary(text) == list(text.encode()) and encoding.decode(list(text.encode())) == text
    assert encoding.n_vocab == 257 and encoding.eot_token == 256


def test_an_unknown_tokenizer_ends_in_one_line():
    with pytest.raises(SystemExit, match="no tokenizer is called 'gpt5'"):
        load_tokenizer("gpt5")


def test_missing_ranks_end_in_a_line_that_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(SystemExit, match="TIKTOKEN_CACHE_DIR"):
        load_tokenizer("codegen")
