// client_guessing -- who guesses passwords: what the listeners hear of it, how it is delayed, and when it ends.
#include "toy_authenticator.hpp"

using namespace test;

namespace {

using Lines = std::vector<std::string>;

const std::string guess = "C: " + plain(wrong) + '\n';
const std::string failure = guess + "S: 535 5.7.8\n";
const std::string success = "C: " + plain() + "\nS: 235 2.7.0\n";

Setup heard_by(std::shared_ptr<Book> book, Setup setup = authenticating()) {
    setup.listeners = [book](Server& server) { book->listen(server); };
    return setup;
}

template <class Hook>
Setup hooked(Hook hook) {
    auto setup = authenticating();
    setup.listeners = [hook](Server& server) { server.on<Event::Auth>([hook](Event::Auth& e) { hook(e); }); };
    return setup;
}

void wait_for(const Book& book, std::size_t lines) {
    const auto end = Clock::now() + patience;
    while (book.lines().size() < lines && Clock::now() < end) std::this_thread::sleep_for(5ms);
    REQUIRE(book.lines().size() == lines);
}

// Opens the gate when the test says so.
struct Gate {
    std::promise<void> entered, opened;
    std::shared_future<void> open{opened.get_future().share()};
};

}  // namespace

// ---- events ----

TEST_CASE("every attempt is an event: who, how, and why not; and no secret is in it") {
    auto book = std::make_shared<Book>();
    const auto played = dialogue(
        greeted + failure + "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501\nC: AUTH NTLM\nS: 504\nC: AUTH PLAIN ?\nS: 501\n" +
            "C: AUTH ASK =\nS: 501\nC: AUTH ASK\nS: 334\nC: am9l\nS: 334\nC: *\nS: 501\nC: AUTH LATER =\nS: 454\n" +
            "C: AUTH THROWS\nS: 454\nC: AUTH PLAIN\nC: NOOP\nS: 503\nS: 250\nC: AUTH REFUSES " +
            base64_encode("a\r\nb\x7F" + std::string(300, 'x')) + "\nS: 535\n" + success + "C: QUIT\nS: 221\nS: EOF",
        heard_by(book));
    CHECK(book->lines() == Lines{
                               "PLAIN joe 535 wrong password",
                               "PLAIN  501 cancelled",
                               "NTLM  504 no such mechanism",
                               "PLAIN  501 not decodable",
                               "ASK  501 an initial response where the server speaks first",
                               "ASK  501 cancelled",
                               "LATER joe 454 the directory is away",
                               "THROWS  454 the mechanism has thrown an exception",
                               "PLAIN  503 a response before it was asked for",
                               "REFUSES a??b?" + std::string(250, 'x') + " 535 on principle",
                               "PLAIN joe 235",
                           });
    for (const auto& line : book->lines()) CHECK(line.find("secret") == line.npos);
    CHECK(played.heard.find("secret") == std::string::npos);
    CHECK(played.heard.find("wrong password") == std::string::npos);
}

TEST_CASE("what is no attempt is no event") {
    auto book = std::make_shared<Book>();
    auto setup = heard_by(book);
    dialogue("S: 220\nC: " + plain() + "\nS: 503\nC: EHLO me\nS: 250\nC: AUTH\nS: 501\nC: AUTH P*\nS: 501\n" + success +
                 "C: " + plain() + "\nS: 503\n" + in_step,
             setup);
    CHECK(book->lines() == Lines{"PLAIN joe 235"});
}

TEST_CASE("an exchange that breaks off is an event too") {
    auto book = std::make_shared<Book>();
    {
        Talk talk(heard_by(book));
        talk.play(greeted + "C: AUTH ASK\nS: 334\nC: am9l\nS: 334");
        talk.end();
    }
    CHECK(book->lines() == Lines{"ASK  421 the connection was lost"});
}

TEST_CASE("a listener may refuse who was right, and then nothing has happened") {
    for (const int way : {0, 1}) {
        auto setup = hooked([way](Event::Auth& e) {
            const Reply no{535, "5.7.8", "Your account is closed"};
            if (way == 1) throw Reject(no);
            e.reply = no;
        });
        std::string users;
        setup.handler = [&users](Server::Client& c) {
            users += '[' + c.user() + c.mechanism() + ']';
            c.accept();
        };
        const auto played =
            dialogue(greeted + "C: " + plain() + "\nS: 535 5.7.8 Your account is closed\n" + mail + in_step, setup);
        REQUIRE(played.mails.size() == 1);
        CHECK(played.mails[0].protocol == "ESMTP");
        CHECK(users == "[]");
    }
    dialogue(greeted + "C: " + plain() + "\nS: 535 5.7.8 Go\nS: EOF", hooked([](Event::Auth&) {
                 throw Hangup({535, "5.7.8", "Go"});
             }));
    dialogue(greeted + "C: " + plain() + "\nS: 421 4.7.0\nS: EOF", hooked([](Event::Auth& e) {
                 e.reply = {421, "4.7.0", "Not now"};
             }));
    const auto played = dialogue(greeted + "C: " + plain() + "\nS: 451 4.3.0\n" + in_step,
                                 hooked([](Event::Auth&) { throw std::runtime_error("the ledger is full"); }));
    CHECK(played.troubles == Lines{"the ledger is full"});
    CHECK(played.heard.find("ledger") == std::string::npos);
}

TEST_CASE("a listener may say who it is, but not let in whom the mechanism refuses") {
    std::string user;
    auto setup = hooked([](Event::Auth& e) {
        e.user = "joe@example.org";
        e.reply = {250, "2.0.0", "Welcome"};
    });
    setup.handler = [&user](Server::Client& c) {
        user = c.user();
        c.accept();
    };
    dialogue(greeted + failure + "C: AUTH LATER =\nS: 454\nC: AUTH NTLM\nS: 504\nC: " + plain() +
                 "\nS: 235 2.7.0 Welcome\n" + mail + in_step,
             setup);
    CHECK(user == "joe@example.org");
    dialogue(greeted + "C: " + plain() + "\nS: 454 4.7.0\n" + in_step, hooked([](Event::Auth& e) { e.user.clear(); }));
    dialogue(greeted + "C: AUTH NOBODY =\nS: 235\n" + in_step, hooked([](Event::Auth& e) { e.user = "anonymous"; }));
}

TEST_CASE("a listener hears who has proved to be it when that is another than it acts as") {
    auto toy = std::make_shared<Toy>();
    toy->add("PROXY", [](Response) -> Step { return {Is::success, "signature", "boss", "", "joe\r"}; });
    std::vector<std::string> heard;
    auto setup = hooked([&](Event::Auth& e) { heard.push_back(e.user + '<' + e.proved); });
    setup.options.auth = toy;
    dialogue(greeted + "C: AUTH PROXY =\nS: 334\nC:\nS: 235\n" + in_step, setup);
    dialogue(greeted + success + in_step, setup);
    CHECK(heard == Lines{"boss<joe?", "joe<"});
}

// ---- the delay ----

TEST_CASE("a guess is answered when the delay is over, whatever it took to judge it") {
    auto setup = authenticating();
    setup.options.auth_delay = 1s;
    for (const auto& script : {guess, std::string("C: AUTH ASK\nS: 334\nC: am9l\nS: 334\nC: AAAA\n")}) {
        Talk talk(setup);
        talk.play(greeted);
        const auto began = Clock::now();
        talk.play(script + "S: 535");
        CHECK(Clock::now() - began >= 1s);
        talk.play(in_step);
        talk.end();
    }
}

TEST_CASE("cancelling a guess does not spare its delay") {
    auto setup = authenticating();
    setup.options.auth_delay = 1s;
    Talk talk(setup);
    talk.play(greeted + "C: AUTH TELLING " + base64_encode(wrong) + "\nS: 334");
    const auto began = Clock::now();
    talk.play("C: *\nS: 501 5.7.0");
    CHECK(Clock::now() - began >= 1s);
    talk.play(in_step);
    talk.end();
}

TEST_CASE("only a guess is delayed: success, nonsense and what is our own fault are answered at once") {
    auto setup = authenticating();
    setup.options.auth_delay = 3600s;
    dialogue(greeted +
                 "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501\nC: AUTH NTLM\nS: 504\nC: AUTH PLAIN ?\nS: 501\nC: AUTH ASK "
                 "=\nS: 501\n"
                 "C: AUTH LATER =\nS: 454\nC: AUTH THROWS =\nS: 454\nC: AUTH PLAIN\nC: NOOP\nS: 503\nS: 250\n" +
                 success + in_step,
             setup);
}

TEST_CASE("replies to what came before a guess do not wait for it") {
    auto setup = authenticating();
    setup.options.auth_delay = 3600s;
    Talk talk(setup);
    talk.play(greeted + "C: NOOP\nC: RSET\n" + guess + "S: 250\nS: 250");
    talk.wire.expect_silence();
    talk.end();
}

TEST_CASE("a client that leaves during the delay is not waited for, over TLS neither") {
    for (const bool tcp : {false, true}) {
        for (const bool tls : {false, true}) {
            for (const int way : {0, 1, 2}) {
                CAPTURE(tcp);
                CAPTURE(tls);
                CAPTURE(way);
                auto book = std::make_shared<Book>();
                auto setup = tls ? with_plain_tls() : authenticating();
                setup.options.auth_delay = 3600s;
                if (tcp) setup = heard_by(book, setup);
                Talk talk(setup);
                talk.play(greeted + (tls ? "C: STARTTLS\nS: 220\nC: EHLO me\nS: 250\n" : "") + guess);
                if (tcp) wait_for(*book, 1);
                if (way == 0) talk.wire.end();
                else if (way == 1) talk.wire.vanish();
                else talk.wire.close();
                CHECK(talk.wait().empty());
            }
        }
    }
}

TEST_CASE("a client that has said all it has to say, and closed its direction, hears all the answers") {
    for (const bool tcp : {false, true}) {
        auto setup = authenticating();
        setup.options.auth_delay = 1s;
        if (tcp) setup.listeners = [](Server&) {};
        dialogue(greeted + guess + "C: NOOP\nC: QUIT\nC: EOF\nS: 535\nS: 250\nS: 221\nS: EOF", setup);
    }
}

TEST_CASE("a server that is to stop waits for no delay and no response") {
    auto options = authenticating().options;
    options.auth_delay = 3600s;
    auto book = std::make_shared<Book>();
    RunningServer running(options, [&](Server& s) { book->listen(s); });
    auto delayed = running.dial(), asked = running.dial();
    delayed.say(plain(wrong));
    wait_for(*book, 1);
    asked.say("AUTH PLAIN");
    asked.expect("334");
    running.server.stop();
    delayed.expect("535 5.7.8");
    delayed.expect("421 4.3.2");
    delayed.expect_end();
    asked.expect("421 4.3.2");
    asked.expect_end();
    running.thread.join();
}

TEST_CASE("a session's time is its delay's too") {
    auto setup = authenticating();
    setup.options.auth_delay = 3600s;
    setup.options.session_timeout = 1s;
    dialogue(greeted + guess + "S: 535\nS: 421 4.4.2\nS: EOF", setup);
}

// ---- deadlines ----

TEST_CASE("a response has the time of a command, and octets win no more") {
    std::vector<Background> all;
    for (const std::string octets : {"", "QUJD", "\r"}) {
        for (const std::string script : {"C: AUTH PLAIN\nS: 334 ", "C: AUTH ASK\nS: 334\nC: am9l\nS: 334",
                                         "C: AUTH SIGNED AGpvZQBzZXNhbWU=\nS: 334"}) {
            all.emplace_back([octets, script] {
                auto setup = authenticating();
                setup.options.command_timeout = 1s;
                Talk talk(setup);
                talk.play(greeted + script);
                const auto began = Clock::now();
                for (std::size_t i = 0; !octets.empty() && Clock::now() - began < patience; ++i) {
                    talk.wire.send(octets.substr(i % octets.size(), 1));
                    pollfd in{talk.wire.fd(), POLLIN, 0};
                    if (poll(&in, 1, 100) > 0) break;
                }
                talk.wire.expect("421 4.4.2");
                talk.wire.expect_end();
                if (Clock::now() - began < 700ms) throw std::runtime_error("too soon");
                talk.end();
            });
        }
    }
    for (auto& one : all) CHECK_NOTHROW(one.join());
}

TEST_CASE("a client may leave at any octet of an exchange") {
    const std::string whole = "EHLO me\r\nAUTH PLAIN\r\n" + base64_encode(credentials) + "\r\nMAIL FROM:<a@b>\r\n";
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
        CAPTURE(cut);
        Talk polite(authenticating()), rude(authenticating());
        for (auto* talk : {&polite, &rude}) {
            const auto line = whole.find("AUTH PLAIN\r\n") + 12;
            talk->wire.expect("220");
            talk->wire.send(whole.substr(0, std::min(cut, line)));
            if (cut > line) {
                talk->wire.expect("250");
                talk->wire.expect("334 ");
                talk->wire.send(whole.substr(line, cut - line));
            }
        }
        polite.wire.end();
        CHECK(polite.wait().empty());
        CHECK(rude.end().empty());
    }
}

// ---- a session's limit ----

TEST_CASE("a session has so many guesses; one more AUTH is 421, though it be right") {
    for (const std::size_t limit : {1, 3}) {
        auto setup = authenticating();
        setup.options.auth_failures = limit;
        std::string fewer, all;
        for (std::size_t i = 0; i < limit; ++i) fewer = all, all += failure;
        dialogue(greeted + fewer + success + in_step, setup);
        dialogue(greeted + all + "C: NOOP\nS: 250\nC: " + plain() + "\nS: 421 4.7.0\nS: EOF", setup);
        dialogue(greeted + all + "C: EHLO me\nS: 250\nC: AUTH PLAIN\nS: 421 4.7.0\nS: EOF", setup);
        dialogue(greeted + all + mail + in_step, setup);  // who may send without it may still
    }
    auto setup = authenticating();
    setup.options.auth_failures_per_ip = 0;
    auto script = greeted;
    for (int i = 0; i < 50; ++i) script += failure;
    setup.listeners = [](Server&) {};
    dialogue(script + success + in_step, setup);
}

TEST_CASE("STARTTLS does not forget a session's guesses") {
    auto setup = with_plain_tls();
    setup.options.clear_auth = ClearAuth::everywhere;
    setup.options.auth_failures = 2;
    dialogue(greeted + failure + "C: STARTTLS\nS: 220\nC: EHLO me\nS: 250\n" + failure + "C: " + plain() +
                 "\nS: 421 4.7.0\nS: EOF",
             setup);
}

TEST_CASE("a guess is one also when it is cancelled, garbled or refused by a listener; what was never judged is none") {
    const auto one_more = "C: " + plain() + "\nS: 421 4.7.0\nS: EOF";
    auto setup = authenticating();
    setup.options.auth_failures = 1;
    const auto told = "C: AUTH TELLING " + base64_encode(wrong) + "\nS: 334\n";
    for (const std::string end : {"C: *\nS: 501\n", "C: !\nS: 501\n", "C: AQ==\nS: 535\n"})
        dialogue(greeted + told + end + one_more, setup);
    dialogue(greeted + told + "C: " + std::string(12'289, 'A') + "\nS: 500\n" + one_more, setup);
    dialogue(greeted + "C: AUTH TELLING " + base64_encode(wrong) + "\nC: NOOP\nS: 503\nS: 250\n" + one_more, setup);
    dialogue(greeted + "C: AUTH SIGNED " + base64_encode(credentials) + "\nS: 334\nC: *\nS: 501\n" + one_more, setup);
    for (const std::string fault : {"LATER", "THROWS", "NOBODY"})  // asking again and again costs more than a line
        dialogue(greeted + "C: AUTH " + fault + " =\nS: 454\n" + one_more, setup);
    dialogue(greeted +
                 "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501\nC: AUTH NTLM\nS: 504\nC: AUTH PLAIN ?\nS: 501\nC: AUTH ASK =\n"
                 "S: 501\nC: AUTH PLAIN\nS: 334 \nC: !\nS: 501\n" +
                 success + in_step,
             setup);

    auto refusing = hooked([](Event::Auth& e) { e.reply = {535, "5.7.8", "No"}; });
    refusing.options.auth_failures = 1;
    dialogue(greeted + "C: " + plain() + "\nS: 535\n" + one_more, refusing);
}

TEST_CASE("what was never judged is counted as any wrong command is") {
    auto setup = authenticating();
    setup.options.max_errors = 3;
    dialogue(greeted +
                 "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501\nC: AUTH NTLM\nS: 504\nC: AUTH PLAIN ?\nS: 501\nC: AUTH\n"
                 "S: 421 4.7.0\nS: EOF",
             setup);
}

// ---- an address's limit ----

TEST_CASE("an address has so many guesses in all its sessions, then AUTH is 454 before anything is looked at") {
    auto toy = std::make_shared<Toy>();
    auto options = authenticating(toy).options;
    options.auth_failures_per_ip = 4;
    auto book = std::make_shared<Book>();
    RunningServer running(options, [&](Server& s) { book->listen(s); });
    for (int session = 0; session < 2; ++session) {
        auto wire = running.dial();
        for (int i = 0; i < 2; ++i) CHECK(wire.ask(plain(wrong)) == 535);
        CHECK(wire.ask("QUIT") == 221);
        if (session == 0) {
            auto other = running.dial();
            CHECK(other.ask(plain()) == 235);  // and takes nothing back
        }
    }
    const int begun = toy->begun;
    auto wire = running.dial();
    wire.say(plain());
    const auto right = wire.expect("454 4.7.0");
    wire.say(plain(wrong));
    CHECK(wire.expect("454 4.7.0") == right);
    for (const std::string line : {"AUTH PLAIN", "AUTH ASK", "AUTH NTLM", "AUTH PLAIN ?"}) {
        wire.say(line);
        CHECK(wire.expect("454 4.7.0") == right);
    }
    CHECK(toy->begun == begun);
    CHECK(book->lines().back() == "PLAIN  454 too many failures of this address");
    CHECK(wire.ask("MAIL FROM:<a@b>") == 250);  // all else is as ever
}

TEST_CASE("an address may try again when its window is over") {
    auto options = authenticating().options;
    options.auth_failures_per_ip = 1;
    options.auth_window = 1s;
    RunningServer running(options);
    auto wire = running.dial();
    const auto began = Clock::now();
    CHECK(wire.ask(plain(wrong)) == 535);
    int code = 454;
    for (const auto end = Clock::now() + patience; code == 454 && Clock::now() < end; std::this_thread::sleep_for(20ms))
        code = wire.ask(plain());
    CHECK(code == 235);
    CHECK(Clock::now() - began >= 1s);
}

TEST_CASE("a session that keeps trying against its address's limit is ended") {
    auto options = authenticating().options;
    options.auth_failures_per_ip = 1;
    options.auth_failures = 3;
    RunningServer running(options);
    auto first = running.dial(), second = running.dial();
    CHECK(first.ask(plain(wrong)) == 535);
    for (int i = 0; i < 3; ++i) CHECK(second.ask(plain()) == 454);
    CHECK(second.ask(plain()) == 421);
    second.expect_end();
}

TEST_CASE("guesses side by side are told no more than guesses one after the other") {
    auto toy = std::make_shared<Toy>();
    auto gate = std::make_shared<Gate>();
    toy->add("GATE", [gate](Response r) -> Step {
        gate->entered.set_value();
        gate->open.wait();
        return toy_plain(r);
    });
    auto options = authenticating(toy).options;
    options.auth_failures_per_ip = 2;
    RunningServer running(options);
    auto slow = running.dial(), quick = running.dial();
    slow.say("AUTH GATE " + base64_encode(credentials));
    gate->entered.get_future().wait();
    for (int i = 0; i < 2; ++i) CHECK(quick.ask(plain(wrong)) == 535);
    gate->opened.set_value();
    slow.expect("454 4.7.0");
    CHECK(slow.ask("MAIL FROM:<a@b> AUTH=<>") == 250);
}

TEST_CASE("exchanges begun before the limit tell no more than guesses, by no challenge either") {
    for (const auto& [mechanism, response] : {std::pair{"SIGNED", credentials}, std::pair{"TELLING", wrong}}) {
        auto options = authenticating().options;
        options.auth_failures_per_ip = 2;
        auto book = std::make_shared<Book>();
        RunningServer running(options, [&](Server& s) { book->listen(s); });
        auto early = running.dial(), other = running.dial();
        CHECK(early.ask(std::string("AUTH ") + mechanism) == 334);
        for (int i = 0; i < 2; ++i) CHECK(other.ask(plain(wrong)) == 535);
        early.say(base64_encode(response));
        early.expect("454 4.7.0");
        CHECK(book->lines().back() == std::string(mechanism) + " joe 454 too many failures of this address");
    }
}

TEST_CASE("a challenge that tells of a failure counts as one when it is told") {
    auto options = authenticating().options;
    options.auth_failures_per_ip = 2;
    RunningServer running(options);
    std::vector<Wire> wires;
    for (int i = 0; i < 4; ++i) wires.push_back(running.dial());
    for (int i = 0; i < 4; ++i)
        CHECK(wires[std::size_t(i)].ask("AUTH TELLING " + base64_encode(wrong)) == (i < 2 ? 334 : 454));
    for (int i = 0; i < 2; ++i) CHECK(wires[std::size_t(i)].ask("AQ==") == 535);  // and once
}

TEST_CASE("leaving before the answer does not spare an address its guess") {
    auto options = authenticating().options;
    options.auth_failures_per_ip = 2;
    options.auth_delay = 3600s;
    auto book = std::make_shared<Book>();
    RunningServer running(options, [&](Server& s) { book->listen(s); });
    {
        auto told = running.dial();
        told.say("AUTH TELLING " + base64_encode(wrong));
        told.expect("334");
        told.close();
        wait_for(*book, 1);
        auto impatient = running.dial();
        impatient.say(plain(wrong));
        wait_for(*book, 2);
        impatient.close();
    }
    auto wire = running.dial();
    CHECK(wire.ask(plain()) == 454);
    CHECK(book->lines()[0] == "TELLING joe 421 the connection was lost");
}

TEST_CASE("what is no guess does not count against an address, and on a Unix socket nothing does") {
    auto setup = authenticating();
    setup.options.auth_failures_per_ip = 1;
    setup.listeners = [](Server&) {};
    dialogue(
        greeted +
            "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501\nC: AUTH LATER =\nS: 454\nC: AUTH THROWS =\nS: 454\nC: AUTH PLAIN ?\n"
            "S: 501\nC: AUTH NTLM =\nS: 504\nC: AUTH PLAIN\nC: NOOP\nS: 503\nS: 250\n" +
            success + in_step,
        setup);
    setup.listeners = nullptr;
    dialogue(greeted + failure + failure + success + in_step, setup);
}

TEST_CASE("many that guess at once are told as many failures as the limit, and nobody is let in") {
    auto options = authenticating().options;
    options.auth_failures_per_ip = 10;
    RunningServer running(options);
    std::atomic<int> refused{0}, later{0}, other{0};
    std::vector<Background> all;
    for (int i = 0; i < 8; ++i)
        all.emplace_back([&] {
            auto wire = running.dial();
            for (int n = 0; n < 10; ++n) {
                const int code = wire.ask(plain(wrong));
                ++(code == 535 ? refused : code == 454 ? later : other);
            }
        });
    for (auto& one : all) one.join();
    CHECK(refused == 10);
    CHECK(later == 70);
    CHECK(other == 0);
}
