"""A .cu file as C++ for the emulation: launches as calls, shared memory as pointers and references.

  translate.py SOURCE.cu TARGET.cpp
"""
import re
import sys

OPENING, CLOSING = "([{<", ")]}>"


def split(text):
    """At the commas outside of any bracket."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in OPENING) - (char in CLOSING)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def closing(text, begin):
    """Index of the parenthesis that closes the one at `begin`."""
    depth = 0
    for i in range(begin, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError("unbalanced parentheses")


def launches(text):
    """kernel<<<grid, block, shared, stream>>>(arguments) as emulation::launch(grid, block, shared, kernel, arguments).

    The kernel may be a local variable and the launch kept for later: it is copied."""
    out = ""
    while (begin := text.find("<<<")) >= 0:
        kernel = re.search(r"[\w:]+(?:<[^;{}]*>)?$", text[:begin])
        end = text.index(">>>", begin)
        shape = split(text[begin + 3:end])
        shared = shape[2] if len(shape) > 2 else "0"
        last = closing(text, text.index("(", end))
        arguments = text[text.index("(", end) + 1:last]
        call = f"emulation::launch({shape[0]}, {shape[1]}, {shared}, [=](auto... passed) {{ {kernel.group()}(passed...); }}, {arguments})"
        out += text[:kernel.start()] + (call if arguments.strip() else call.replace(", )", ")"))
        text = text[last + 1:]
    return out + text


DYNAMIC = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];")
STATIC = re.compile(r"__shared__ (?:__align__\((\d+)\) )?([\w:<>]+) ([^;]+);")


def static_shared(found):
    """TYPE NAME[SIZE], ...; as references into the block's shared memory, one place a declaration and instance of its template."""
    alignment, of, names = found.groups()
    out = ""
    for name in split(names):
        identifier, sizes = re.fullmatch(r"(\w+)((?:\[.+\])*)", name).groups()
        kind, place = f"std::type_identity_t<{of}{sizes}>", f"{identifier}_is_declared"
        out += (f"static char {place}; auto& {identifier} = *static_cast<{kind}*>("
                f"emulation::static_shared(&{place}, sizeof({kind}), {alignment or f'alignof({kind})'})); ")
    return out


def shared_memory(text):
    return STATIC.sub(static_shared, DYNAMIC.sub(r"\1* const \2 = reinterpret_cast<\1*>(emulation::dynamic_shared());", text))


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(target, "w", encoding="utf-8") as file:
        file.write(f'#line 1 "{source}"\n' + launches(shared_memory(text)))


if __name__ == "__main__":
    main()
