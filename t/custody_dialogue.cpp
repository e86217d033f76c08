// custody_dialogue -- "taken, or deferred", as the sender hears it.
#include <sys/wait.h>

#include <fstream>
#include <sstream>
#include <system_error>

#include "dialogue.hpp"

using namespace test;

namespace {

const std::string two_recipients = R"(
    S: 220
    C: EHLO me
    S: 250
    C: MAIL FROM:<a@b>
    S: 250
    C: RCPT TO:<one@d>
    S: 250
    C: RCPT TO:<two@d>
    S: 250
    C: DATA
    S: 354
    C: x
    C: .
)";

// What the sender hears when the program does that with a mail for two.
void heard(const std::string& reply, std::function<void(Server::Client&)> handler) {
    CAPTURE(reply);
    dialogue(two_recipients + "S: " + reply + "\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF",
             {.handler = std::move(handler)});
}

const Reply later{450, "4.2.0", "later"}, never{550, "5.1.1", "never"}, taken{250, "2.6.0", "mine"};

}  // namespace

TEST_CASE("a message nobody takes is deferred") { heard("451 4.3.0", nothing); }

TEST_CASE("looking at a message does not take it") {
    heard("451 4.3.0", [](Server::Client& c) {
        CHECK(c.MSG.view() == "x\r\n");
        CHECK(!c.MSG.header("Subject"));
        std::stringstream copy;
        copy << c.MSG.stream()->rdbuf();
        CHECK(copy.str() == "x\r\n");
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        c.MSG.write_to(null);
        close(null);
        c.TO.clear();
        c.MSG = Message();
    });
}

TEST_CASE("accept and reject are the answer, in their words") {
    heard("250 2.0.0 OK", [](Server::Client& c) { c.accept(); });
    heard("250 2.6.0 mine", [](Server::Client& c) { c.accept(taken); });
    heard("550 5.1.1 never", [](Server::Client& c) { c.reject(never); });
    heard("450 4.2.0 later", [](Server::Client& c) { c.reject(later); });
}

TEST_CASE("who speaks for one recipient leaves the other to somebody") {
    heard("451 4.3.0", [](Server::Client& c) { c.accept(c.TO[0]); });
    heard("451 4.3.0", [](Server::Client& c) { c.accept(c.TO[1]); });
    heard("250", [](Server::Client& c) {
        c.accept(c.TO[0]);
        c.accept(c.TO[1]);
    });
    heard("451 4.3.0", [](Server::Client& c) {
        c.accept(c.TO[0]);
        c.accept(c.TO[0]);
    });
}

TEST_CASE("the worst answer wins, whoever gives it first") {
    auto both = [](Reply first, Reply second) {
        return [first, second](Server::Client& c) {
            auto say = [&](const Recipient& to, const Reply& r) { r.positive() ? c.accept(to, r) : c.reject(to, r); };
            say(c.TO[0], first);
            say(c.TO[1], second);
        };
    };
    heard("250", both(taken, taken));
    heard("550 5.1.1 never", both(taken, never));
    heard("550 5.1.1 never", both(never, taken));
    heard("450 4.2.0 later", both(later, never));
    heard("450 4.2.0 later", both(never, later));
    heard("450 4.2.0 later", both(taken, later));
    heard("451 4.3.0", [](Server::Client& c) { c.reject(c.TO[0], never); });  // nobody spoke for the other
    heard("550", [](Server::Client& c) {
        c.reject(never);
        c.accept();
    });
    heard("550", [](Server::Client& c) {
        c.accept();
        c.reject(never);
    });
}

TEST_CASE("reconsider() forgets what was said") {
    heard("250", [](Server::Client& c) {
        c.reject(later);
        c.reconsider();
        c.accept();
    });
    heard("451 4.3.0", [](Server::Client& c) {
        c.accept();
        c.reconsider();
    });
}

TEST_CASE("the answer does not depend on the public fields") {
    heard("451 4.3.0", [](Server::Client& c) {
        c.accept(c.TO[0]);
        c.TO.pop_back();
    });
    heard("250", [](Server::Client& c) {
        const auto copies = c.TO;
        c.TO.clear();
        for (auto copy : copies) {
            copy.local = "alias";  // still the one it was copied from
            c.accept(copy);
        }
    });
    heard("451 4.3.0", [](Server::Client& c) { c.accept(Recipient("one@d")); });  // a stranger of the same name
    heard("250", [](Server::Client& c) {
        const auto message = c.MSG;
        c.MSG = Message("another");
        c.FROM = Sender("other@b");
        c.accept();
    });
}

TEST_CASE("a saved message is taken, one that can't be saved is 452") {
    Folder folder;
    heard("250", [&](Server::Client& c) { c.MSG.save(folder / "mail"); });
    std::ifstream file(folder / "mail");
    CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == "x\r\n");
    CHECK(folder.names() == std::vector<std::string>{"mail"});

    heard("452 4.3.1", [&](Server::Client& c) {
        CHECK_THROWS_AS(c.MSG.save(folder / "mail"), std::system_error);
    });  // the name is taken
    heard("452 4.3.1",
          [&](Server::Client& c) { CHECK_THROWS_AS(c.MSG.save(folder / "no/such/folder"), std::system_error); });
    heard("452 4.3.1", [&](Server::Client& c) { CHECK_THROWS_AS(c.MSG.save("/proc/mail"), std::system_error); });
    heard("452 4.3.1", [&](Server::Client& c) {
        CHECK_THROWS(c.MSG.save(folder / "mail"));
        c.accept();  // does not make it better
    });
    heard("250", [&](Server::Client& c) {
        CHECK_THROWS(c.MSG.save(folder / "mail"));
        c.reconsider();
        c.MSG.save(folder / "other name");
    });
    CHECK(folder.names().size() == 2);
}

TEST_CASE("an exception out of a taker that is nowhere caught is 451, and the session is over in order") {
    Talk talk({.program = [](Server::Client& c) {
        try {
            while (c.process()) {
                c.MSG.custody().begin();
                throw std::runtime_error("secret");
            }
        } catch (const std::exception&) {
            // only logged
        }
    }});
    talk.play(two_recipients + "S: 451 4.3.0\nC: NOOP\nS: 421 4.3.2\nS: EOF");
    talk.end();
    CHECK(talk.wire.heard().find("secret") == std::string::npos);
}

TEST_CASE("a taker that has begun and not ended counts as later, even beside one that took it") {
    heard("451 4.3.0", [](Server::Client& c) {
        c.accept();
        c.MSG.custody().begin();
    });
}

TEST_CASE("answer() says it now, and what is said afterwards is a mistake") {
    Folder folder;
    Talk talk({.program = [&](Server::Client& c) {
        REQUIRE(c.process());
        c.accept();
        c.answer();
        c.answer();
        CHECK_THROWS_AS(c.accept(), std::logic_error);
        CHECK_THROWS_AS(c.reject(never), std::logic_error);
        CHECK_THROWS_AS(c.accept(c.TO[0]), std::logic_error);
        CHECK_THROWS_AS(c.reject(c.TO[0], never), std::logic_error);
        CHECK_THROWS_AS(c.reconsider(), std::logic_error);
        CHECK_THROWS_AS(c.MSG.save(folder / "late"), std::logic_error);
        CHECK_THROWS_AS(Relay(c.FROM, c.TO, c.MSG, {.host = "127.0.0.1:1"}), std::logic_error);
        CHECK(!c.process());
    }});
    talk.play(two_recipients + "S: 250\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
    CHECK(folder.names().empty());
}

TEST_CASE("answer() sends, it does not only record") {
    std::promise<void> heard_it;
    Talk talk({.program = [waits = heard_it.get_future().share()](Server::Client& c) {
        REQUIRE(c.process());
        c.accept();
        c.answer();
        waits.wait_for(patience);
    }});
    talk.play(two_recipients);
    CHECK_NOTHROW(talk.wire.expect("250", 2s));
    heard_it.set_value();
    talk.end();
}

TEST_CASE("the seed's loop: one mail, and the end of the scope answers in order") {
    const auto one = [](Server::Client& c) {
        if (c.process()) c.accept();
    };
    for (const std::string then : {"C: QUIT\nS: 221 2.0.0", "C: quit  \nS: 221", "C: MAIL FROM:<next@b>\nS: 421 4.3.2",
                                   "C: NOOP\nS: 421 4.3.2", "C: \nS: 421 4.3.2"}) {
        CAPTURE(then);
        Talk talk({.program = one});
        talk.play(two_recipients + "S: 250\n" + then + "\nS: EOF");
        talk.end();
    }
    // Pipelined: much is there already, and none of it may cost the client its 250.
    Talk talk({.program = one});
    talk.play(
        "C: EHLO me\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: DATA\nC: x\nC: .\nC: MAIL FROM:<e@f>\nC: RCPT "
        "TO:<g@h>\nC: DATA\nC: y\nC: .\nC: QUIT\n"
        "S: 220\nS: 250\nS: 250\nS: 250\nS: 354\nS: 250\nS: 421 4.3.2\nS: EOF");
    talk.end();
}

TEST_CASE("a client that says nothing more is told so after two seconds") {
    Talk talk({.program = [](Server::Client& c) {
        if (c.process()) c.accept();
    }});
    talk.play(two_recipients + "S: 250");
    const auto began = Clock::now();
    talk.play("S: 421 4.3.2\nS: EOF");
    CHECK(Clock::now() - began < 4s);
    talk.end();
}

TEST_CASE("unread input does not cost the reply") {
    // Over TCP a close with unread input is a reset, which may overtake what was said.
    for (const std::size_t unread : {10, 10'000, 60'000}) {
        CAPTURE(unread);
        Setup setup;
        setup.listeners = [](Server&) {};
        setup.program = [](Server::Client& c) {
            if (c.process()) c.accept();
        };
        Talk talk(setup);
        talk.play(opening);
        talk.wire.send("DATA\r\nx\r\n.\r\nNOOP\r\n" + std::string(unread, 'x') + "\r\n");
        talk.play("S: 354\nS: 250\nS: 421");
        talk.wire.expect_end();  // an end, no reset
        talk.end();
    }
}

TEST_CASE("without a process() the end of the scope says nothing") {
    Talk talk({.program = nothing});
    talk.play("S: EOF");
    talk.end();
}

TEST_CASE("a forked child's copy of a session says nothing, whatever happens to it") {
    Talk talk({.program = [](Server::Client& c) {
        REQUIRE(c.process());
        c.accept();
        const pid_t child = fork();
        if (child == 0) {
            c.~Client();
            _exit(0);
        }
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        c.reject({550, "5.7.1", "the parent's word"});
        CHECK(!c.process());
    }});
    talk.play(two_recipients + "S: 550 5.7.1 the parent's word\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
}

TEST_CASE("a forked child that is killed or exits while a mail waits says nothing") {
    for (const bool killed : {true, false}) {
        const auto [ours, theirs] = socket_pair();
        const pid_t child = fork();
        if (child == 0) {
            close(ours);
            Server::Client client(theirs, brief());
            if (client.process()) {
                client.accept();
                if (killed) raise(SIGKILL);
                _exit(0);
            }
            _exit(1);
        }
        close(theirs);
        Wire wire(ours);
        play(wire, two_recipients + "S: EOF");
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
    }
}

TEST_CASE("recipients that fare differently are a trouble the program hears of") {
    Setup setup;
    setup.listeners = [](Server&) {};
    setup.handler = [](Server::Client& c) {
        c.accept(c.TO[0]);
        c.reject(c.TO[1], never);
    };
    const auto played = dialogue(two_recipients + "S: 550\nC: QUIT\nS: 221", setup);
    CHECK(played.troubles.size() == 1);
}

TEST_CASE("a mail is judged by itself, not by the one before") {
    int n = 0;
    Setup setup;
    setup.handler = [&](Server::Client& c) {
        if (n++ % 2 == 0) c.accept();
    };
    const std::string mail = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: ";
    dialogue("S: 220\nC: EHLO me\nS: 250\n" + mail + "250\n" + mail + "451\n" + mail + "250\n" + mail +
                 "451\nC: QUIT\nS: 221",
             setup);
}

TEST_CASE("sender_present() tells whether the sender still waits") {
    std::promise<void> seen, gone;
    Talk talk({.program = [&seen, left = gone.get_future().share()](Server::Client& c) {
        REQUIRE(c.process());
        CHECK(c.MSG.sender_present());
        seen.set_value();
        const auto copy = c.MSG;
        left.wait_for(patience);
        CHECK(!c.MSG.sender_present());
        CHECK(!copy.sender_present());
        CHECK(!c.process());
        CHECK(copy.sender_present());  // nobody waits for an answer to a copy that is left
    }});
    talk.play(two_recipients);
    seen.get_future().wait_for(patience);
    talk.wire.close();
    gone.set_value();
    talk.end();
}
