"""The test card numbers that schemes and payment providers publish."""

from __future__ import annotations

TEST_CARDS = [
    # Visa
    "4111111111111111",
    "4242424242424242",
    "4000056655665556",
    "4012888888881881",
    "4222222222222",
    "4000000000000000006",
    # Mastercard
    "5555555555554444",
    "5105105105105100",
    "5200828282828210",
    "5454545454545454",
    "2223003122003222",
    "2222400070000005",
    "2720990000000007",
    # American Express
    "378282246310005",
    "371449635398431",
    "341111111111111",
    # Diners Club
    "30569309025904",
    "38520000023237",
    "36227206271667",
    "3056930009020004",
    # Discover
    "6011111111111117",
    "6011000990139424",
    "6445644564456445",
    "6500000000000002",
    # JCB
    "3530111333300000",
    "3566002020360505",
    # UnionPay
    "6200000000000005",
    "6250946000000016",
    "6205500000000000004",
    "8171999927660000",
    # Maestro
    "6304000000000000",
    "6759649826438453",
    "6771798021000008",
    "5018000000000009",
    "6799990100000000019",
    # Mir, Troy, RuPay, Elo, Uzcard, Humo
    "2200000000000004",
    "9792000000000003",
    "8100000000000002",
    "6521111111111110",
    "5066991111111118",
    "8600000000000007",
    "9860000000000000",
]


def grouped(card: str, separator: str) -> str:
    """The card number in the groups in which cards print numbers of its length."""
    sizes = {13: (4, 3, 3, 3), 14: (4, 6, 4), 15: (4, 6, 5)}.get(len(card), (4, 4, 4, 4, 3))
    groups, rest = [], card
    for size in sizes:
        groups.append(rest[:size])
        rest = rest[size:]
    return separator.join(group for group in groups if group)
