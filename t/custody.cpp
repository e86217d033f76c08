// custody -- tests of Custody: who has taken a message, and the one answer that follows from it.
#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>

#include "../Server/Custody.hpp"

using namespace Net::SMTP;

namespace {

const Reply taken{250, "2.0.0", "Taken"}, later{450, "4.2.1", "Later"}, never{550, "5.1.1", "Never"};

std::vector<Recipient> recipients(int n) {
    std::vector<Recipient> out;
    for (int i = 1; i <= n; ++i) {
        out.emplace_back("r" + std::to_string(i) + "@example.org");
        out.back().id = std::uint64_t(100 + i);
    }
    return out;
}

struct Transaction {
    explicit Transaction(int n) : to(recipients(n)) { custody.open(to); }
    int code() const { return custody.verdict().code; }
    int code(int i) const { return custody.verdict(to[std::size_t(i)]).code; }
    std::vector<Recipient> to;
    Custody custody;
};

// What one taker did: nothing, began only, or said something.
enum Taker { absent, begun, says_taken, says_later, says_never };
constexpr Taker takers[] = {absent, begun, says_taken, says_later, says_never};

const Reply* said(Taker t) {
    return t == says_taken ? &taken : t == says_later ? &later : t == says_never ? &never : nullptr;
}

// The codes one recipient hears of these takers, by the rule: later > never > taken; nobody and not yet are 451.
int expected(std::initializer_list<Taker> all) {
    bool any = false, is_begun = false, is_later = false, is_never = false;
    for (auto t : all) {
        any |= t != absent;
        is_begun |= t == begun;
        is_later |= t == says_later;
        is_never |= t == says_never;
    }
    return is_later ? 450 : !any || is_begun ? 451 : is_never ? 550 : 250;
}

}  // namespace

TEST_CASE("a message nobody speaks for is deferred") {
    Transaction t(2);
    CHECK(t.custody.verdict() == Reply{451, "4.3.0", "Nobody took the message"});
    CHECK(t.code(0) == 451);
    CHECK(!t.custody.mixed());
    CHECK(!t.custody.closed());
    CHECK(t.custody.attached());
    CHECK(!Custody().attached());
    CHECK(Custody().verdict().code == 451);
    Transaction empty(0);
    empty.custody.begin();
    empty.custody.settle(taken);
    CHECK(empty.code() == 451);
    CHECK(!empty.custody.mixed());
}

TEST_CASE("of what three takers say for all, in any order, the worst is heard") {
    for (auto a : takers)
        for (auto b : takers)
            for (auto c : takers) {
                CAPTURE(int(a));
                CAPTURE(int(b));
                CAPTURE(int(c));
                // One after the other.
                Transaction one(2);
                for (auto t : {a, b, c}) {
                    if (t != absent) one.custody.begin();
                    if (const auto* r = said(t)) one.custody.settle(*r);
                }
                CHECK(one.code() == expected({a, b, c}));
                CHECK(one.code(0) == one.code(1));
                CHECK(!one.custody.mixed());
                // All begin, then they speak.
                Transaction all(2);
                for (auto t : {a, b, c})
                    if (t != absent) all.custody.begin();
                for (auto t : {a, b, c})
                    if (const auto* r = said(t)) all.custody.settle(*r);
                CHECK(all.code() == expected({a, b, c}));
            }
}

TEST_CASE("what takers say for one recipient is about that one, and the worst of all is heard") {
    for (auto a : takers)
        for (auto b : takers)
            for (auto c : takers)
                for (auto everybody : takers) {
                    CAPTURE(int(a));
                    CAPTURE(int(b));
                    CAPTURE(int(c));
                    CAPTURE(int(everybody));
                    Transaction t(3);
                    const Taker each[] = {a, b, c};
                    for (std::size_t i = 0; i < 3; ++i) {
                        if (each[i] != absent) t.custody.begin({&t.to[i], 1});
                        if (const auto* r = said(each[i])) t.custody.settle(t.to[i], *r);
                    }
                    if (everybody != absent) t.custody.begin();
                    if (const auto* r = said(everybody)) t.custody.settle(*r);

                    int worst = 250, some_taken = 0;
                    for (int i = 0; i < 3; ++i) {
                        const int code = expected({each[i], everybody});
                        CHECK(t.code(i) == code);
                        some_taken += code == 250;
                        const auto rank = [](int n) { return n / 100 == 4 ? 2 : n / 100 == 5; };
                        if (rank(code) > rank(worst)) worst = code;
                    }
                    CHECK(t.code() / 100 == worst / 100);
                    CHECK(t.custody.mixed() == (some_taken > 0 && some_taken < 3));
                }
}

TEST_CASE("of equals the first refusal and the last acceptance are heard") {
    Transaction t(1);
    for (int code : {250, 251}) {
        t.custody.begin();
        t.custody.settle({code, "2.0.0", ""});
        CHECK(t.code() == code);
    }
    for (int code : {550, 551}) {
        t.custody.begin();
        t.custody.settle({code, "5.0.0", ""});
        CHECK(t.code() == 550);
    }
    for (int code : {450, 451}) {
        t.custody.begin();
        t.custody.settle({code, "4.0.0", ""});
        CHECK(t.code() == 450);
    }
    t.custody.begin();
    t.custody.settle(taken);
    CHECK(t.code() == 450);

    Transaction two(2);
    two.custody.begin();
    two.custody.settle(two.to[1], {554, "", "second"});
    two.custody.settle(two.to[0], {553, "", "first"});
    CHECK(two.custody.verdict().text == "first");  // of the recipients, in their order
}

TEST_CASE("a taker that has begun and not ended is later, whoever else took it") {
    Transaction t(2);
    t.custody.begin();
    CHECK(t.code() == 451);
    t.custody.begin();
    t.custody.settle(taken);
    CHECK(t.code() == 451);
    t.custody.settle(taken);
    CHECK(t.code() == 250);

    t.custody.begin({&t.to[0], 1});
    CHECK(t.code(0) == 451);
    CHECK(t.code(1) == 250);
    CHECK(t.code() == 451);
    CHECK(t.custody.mixed());
    // Another's verdict about the other recipient does not end it.
    t.custody.begin({&t.to[1], 1});
    t.custody.settle(t.to[1], taken);
    CHECK(t.code(0) == 451);
}

TEST_CASE("a code that is no answer takes nothing") {
    for (int code : {0, 199, 354, 600}) {
        CAPTURE(code);
        for (bool taken_first : {true, false}) {
            Transaction t(1);
            t.custody.begin();
            t.custody.begin();
            if (taken_first) t.custody.settle(taken);
            t.custody.settle({code, "", "odd"});
            if (!taken_first) t.custody.settle(taken);
            CHECK(t.code() / 100 != 2);
        }
    }
}

TEST_CASE("a copy of a recipient is still that recipient, whatever its address") {
    Transaction t(2);
    auto copy = t.to[1];
    static_cast<Address&>(copy) = *Address::parse("elsewhere@example.com");
    const std::vector<Recipient> copies{copy};
    t.custody.begin(copies);
    t.custody.settle(copy, taken);
    CHECK(t.code(1) == 250);
    CHECK(t.code(0) == 451);
    // One of the same address is another.
    Recipient twin(t.to[0].str());
    t.custody.begin({&twin, 1});
    t.custody.settle(twin, taken);
    CHECK(t.code(0) == 451);
}

TEST_CASE("who is not in the transaction changes nothing") {
    Transaction t(1);
    Recipient stranger("stranger@example.org");
    for (std::uint64_t id : {0u, 1u, 100u, 102u}) {
        stranger.id = id;
        t.custody.begin({&stranger, 1});
        t.custody.settle(stranger, taken);
        t.custody.settle(stranger, never);
        CHECK(t.custody.verdict(stranger).code == 451);
    }
    CHECK(t.code() == 451);
    t.custody.begin();
    t.custody.settle(taken);
    CHECK(t.code() == 250);
    CHECK(t.custody.verdict(stranger).code == 451);
}

TEST_CASE("a taker given one recipient twice ends when it has spoken twice") {
    Transaction t(1);
    const std::vector<Recipient> twice{t.to[0], t.to[0]};
    t.custody.begin(twice);
    t.custody.settle(twice[0], taken);
    CHECK(t.code() == 451);
    t.custody.settle(twice[1], taken);
    CHECK(t.code() == 250);
}

TEST_CASE("after the answer every word is too late, and changes nothing") {
    Transaction t(1);
    t.custody.begin();
    t.custody.settle(taken);
    t.custody.close();
    CHECK(t.custody.closed());
    CHECK_THROWS_AS(t.custody.begin(), std::logic_error);
    CHECK_THROWS_AS(t.custody.begin(t.to), std::logic_error);
    CHECK_THROWS_AS(t.custody.begin({}), std::logic_error);
    CHECK_THROWS_AS(t.custody.settle(never), std::logic_error);
    CHECK_THROWS_AS(t.custody.settle(t.to[0], never), std::logic_error);
    CHECK_THROWS_AS(t.custody.reconsider(), std::logic_error);
    CHECK(t.code() == 250);
    t.custody.close();
    CHECK(t.custody.closed());
}

TEST_CASE("a new transaction remembers nothing of the last") {
    Transaction t(2);
    t.custody.begin();
    t.custody.settle(never);
    t.custody.begin();
    t.custody.close();
    t.custody.open({&t.to[0], 1});
    CHECK(!t.custody.closed());
    CHECK(t.code() == 451);
    t.custody.begin();
    t.custody.settle(taken);
    CHECK(t.code() == 250);
    CHECK(t.code(1) == 451);  // who was of the last only
}

TEST_CASE("reconsidered, whoever speaks next decides alone") {
    for (auto before : takers)
        for (auto after : takers) {
            Transaction t(2);
            if (before != absent) t.custody.begin();
            if (const auto* r = said(before)) t.custody.settle(*r);
            t.custody.reconsider();
            CHECK(t.custody.verdict().text == "Nobody took the message");
            if (after != absent) t.custody.begin();
            if (const auto* r = said(after)) t.custody.settle(*r);
            CHECK(t.code() == expected({after}));
        }
}

TEST_CASE("a message without a session may be spoken for by anybody") {
    Custody custody;
    const auto to = recipients(1);
    custody.begin();
    custody.begin(to);
    custody.settle(taken);
    custody.settle(to[0], never);
    custody.reconsider();
    CHECK(!custody.attached());
    CHECK(!custody.mixed());
}

TEST_CASE("takers may speak from several threads") {
    Transaction t(4);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < 4; ++i)
            threads.emplace_back([&t, i] {
                for (int n = 0; n < 2000; ++n) {
                    t.custody.begin({&t.to[i], 1});
                    t.custody.settle(t.to[i], taken);
                    if (t.custody.verdict().temporary() && t.custody.closed()) return;
                }
            });
    }
    CHECK(t.code() == 250);
}

TEST_CASE("the rest are those for whom nobody has spoken to the end") {
    std::vector<Recipient> to(4);
    for (std::size_t i = 0; i < to.size(); ++i) to[i].id = i + 1;
    Custody custody;
    custody.open(to);
    custody.begin({&to[0], 1});
    custody.settle(to[0], {250, "2.0.0", "taken"});
    custody.begin({&to[1], 1});
    custody.settle(to[1], {550, "5.1.1", "never"});
    custody.begin({&to[2], 1});
    CHECK(custody.forgotten() == 1);
    custody.settle_rest({452, "4.3.1", "full"});
    CHECK(custody.forgotten() == 0);
    CHECK(custody.verdict(to[0]).code == 250);
    CHECK(custody.verdict(to[1]).code == 550);
    CHECK(custody.verdict(to[2]).code == 452);
    CHECK(custody.verdict(to[3]).code == 452);
}
