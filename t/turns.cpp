// turns -- a thread that yields before it sleeps hears what it would have heard, and is scheduled as before in the end.
#include "../Server/Turns.hpp"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "peer.hpp"

#include <doctest/doctest.h>

using namespace test;

namespace {

// The scheduler's slice of this thread, where the system tells it.
std::uint64_t slice() {
    std::uint64_t attributes[8]{};  // the fourth has it
#ifdef SYS_sched_getattr
    REQUIRE(syscall(SYS_sched_getattr, 0, attributes, sizeof attributes, 0) == 0);
#endif
    return attributes[3];
}

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
        return n < 0 ? errno == EAGAIN ? "(nothing)" : "(error)" : n == 0 ? "(end)" : std::string(octets, std::size_t(n));
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

TEST_CASE("a thread is scheduled as before when its turns have paid and when they are over") {
    Background thread([] {
        const auto before = slice();
        {
            const Turns turns;
            Pair pair;
            for (int i = 0; i < 200; ++i) {  // what is there already pays each time
                say(pair.theirs, "x");
                CHECK(pair.heard() == "x");
            }
            const auto hurried = slice();
            MESSAGE("slices: " << before << ", " << hurried << " ns");
            CHECK((hurried == before || hurried == 300'000));  // where the system grants no slices, nothing is done
            pair.wait(100us);
            for (int i = 0; i < 100; ++i) CHECK(pair.heard() == "(nothing)");
            CHECK(slice() == before);  // it does not pay any more
            for (int i = 0; i < 2000; ++i) {
                say(pair.theirs, "x");
                CHECK(pair.heard() == "x");
            }
            CHECK(slice() == hurried);
        }
        CHECK(slice() == before);
    });
    thread.join();
}
