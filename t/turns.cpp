// turns -- a thread that yields before it sleeps hears what it would have heard, and is scheduled as before in the end.
#include "../Server/Turns.hpp"

#include <sched.h>
#include <sys/time.h>

#include "peer.hpp"
#include "scheduled.hpp"

#include <doctest/doctest.h>

using namespace test;

namespace {

struct Pair {
    Pair() {
        std::tie(ours, theirs) = socket_pair();
        wait(20ms);
    }
    void wait(std::chrono::microseconds time) {
        const timeval t{0, suseconds_t(time.count())};
        setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    }
    ~Pair() {
        close(ours);
        close(theirs);
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    std::string heard() {
        char octets[100];
        const auto n = Turns::receive(ours, octets, sizeof octets);
        return n < 0    ? errno == EAGAIN ? "(nothing)" : "(error)"
               : n == 0 ? "(end)"
                        : std::string(octets, std::size_t(n));
    }
    int ours = -1, theirs = -1;
};

void say(int fd, std::string_view octets) { REQUIRE(send(fd, octets.data(), octets.size(), MSG_NOSIGNAL) > 0); }

void hears_all(Pair& pair) {
    say(pair.theirs, "x");
    CHECK(pair.heard() == "x");
    CHECK(pair.heard() == "(nothing)");
    Background later([&] {
        std::this_thread::sleep_for(2ms);
        say(pair.theirs, "later");
    });
    std::string heard;
    for (const auto end = Clock::now() + patience; (heard = pair.heard()) == "(nothing)" && Clock::now() < end;) {
    }
    CHECK(heard == "later");
    later.join();
}

}  // namespace

TEST_CASE("with turns or without, a thread hears what comes, nothing, the end and errors") {
    Background with([] {
        const Turns turns;
        Pair pair;
        for (int i = 0; i < 3; ++i) hears_all(pair);
        shutdown(pair.theirs, SHUT_WR);
        CHECK(pair.heard() == "(end)");
        char octet;
        CHECK(Turns::receive(-1, &octet, 1) == -1);
        CHECK(errno == EBADF);
    });
    with.join();
    Pair pair;
    hears_all(pair);
    shutdown(pair.theirs, SHUT_WR);
    CHECK(pair.heard() == "(end)");
}

TEST_CASE("a thread gives way to others while it has turns, and is scheduled as before when they are over") {
    Background thread([] {
        const Scheduled before;
        REQUIRE(before.policy == SCHED_OTHER);
        CHECK_FALSE(Turns::changed());
        {
            const Turns turns;
            const Scheduled now;
            MESSAGE("slices: " << before.slice << ", " << now.slice << " ns");
            if (Turns::changed()) {
                CHECK(now.policy == SCHED_BATCH);
                CHECK(now.slice == 300'000);
            } else {
                CHECK(now == before);  // where the system grants no slices, nothing is done
            }
            Pair pair;
            for (int i = 0; i < 200; ++i) {  // what is there already pays each time
                say(pair.theirs, "x");
                CHECK(pair.heard() == "x");
            }
            pair.wait(100us);
            for (int i = 0; i < 200; ++i) CHECK(pair.heard() == "(nothing)");
            CHECK(Scheduled() == now);
            {
                const Turns::Pause pause;
                CHECK(Scheduled() == before);
            }
            CHECK(Scheduled() == now);
        }
        CHECK(Scheduled() == before);
        CHECK_FALSE(Turns::changed());
    });
    thread.join();
}

TEST_CASE("a thread that one with turns has started has turns too, and is scheduled as the system does in the end") {
    Background first([] {
        const Scheduled before;
        const Turns turns;
        const bool changed = Turns::changed();
        Background second([&] {
            {
                const Turns own;
                CHECK(Turns::changed() == changed);
            }
            CHECK(Scheduled() == before);
        });
        second.join();
    });
    first.join();
}

TEST_CASE("how a thread is scheduled is left alone where somebody has chosen it") {
    Background thread([] {
        const sched_param none{};
        REQUIRE(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
        const Scheduled before;
        {
            const Turns turns;
            CHECK_FALSE(Turns::changed());
            CHECK(Scheduled() == before);
            Pair pair;
            hears_all(pair);
        }
        CHECK(Scheduled() == before);
    });
    thread.join();
}
