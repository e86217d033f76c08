// client_auth -- AUTH in a session (RFC 4954): where it is offered, how an exchange goes, and what is left of it.
#include "toy_authenticator.hpp"

using namespace test;

namespace {

const Pace paces[] = {Pace::groups, Pace::octets, Pace::pieces};

std::string offered_to(Setup setup, const std::string& hello = "EHLO me") {
    const auto heard = dialogue("S: 220\nC: " + hello + "\nS: 250\nC: QUIT\nS: 221\nS: EOF", std::move(setup)).heard;
    const auto at = heard.find("250-AUTH");
    return at == heard.npos ? "" : heard.substr(at + 4, heard.find("\r\n", at) - at - 4);
}

// "C: <base64>"
std::string says(std::string_view octets) { return "C: " + base64_encode(octets) + '\n'; }
std::string asks(std::string_view octets) { return "S: 334 " + base64_encode(octets) + '\n'; }

}  // namespace

// ---- where ----

TEST_CASE("AUTH is offered in the clear only to whom the option says") {
    auto setup = authenticating();
    CHECK(offered_to(setup) == "AUTH PLAIN ASK");
    setup.options.clear_auth = ClearAuth::loopback;
    CHECK(offered_to(setup) == "AUTH PLAIN ASK");  // a Unix socket
    setup.listeners = [](Server&) {};
    CHECK(offered_to(setup) == "AUTH PLAIN ASK");  // 127.0.0.1
    setup.options.clear_auth = ClearAuth::never;
    CHECK(offered_to(setup) == "");
    setup.listeners = nullptr;
    CHECK(offered_to(setup) == "");
    CHECK(offered_to({}) == "");
}

TEST_CASE("loopback is ::1 too, and a Unix socket's path") {
    auto options = authenticating().options;
    options.clear_auth = ClearAuth::loopback;
    Folder folder;
    for (const auto& address : {std::string("[::1]:0"), "unix:" + folder / "socket"}) {
        CAPTURE(address);
        RunningServer running(options, {}, address);
        auto wire = running.dial();
        wire.say(plain());
        wire.expect("235 2.7.0");
    }
}

TEST_CASE("who has no address is not on loopback") {
    for (const auto where : {ClearAuth::loopback, ClearAuth::everywhere}) {
        auto options = authenticating().options;
        options.clear_auth = where;
        int to[2], from[2];
        REQUIRE(pipe2(to, O_CLOEXEC) == 0);
        REQUIRE(pipe2(from, O_CLOEXEC) == 0);
        const std::string said = "EHLO me\r\nQUIT\r\n";
        REQUIRE(write(to[1], said.data(), said.size()) == ssize_t(said.size()));
        close(to[1]);
        {
            Server::Client client(Connection(to[0], from[1]), options);
            CHECK(!client.process());
        }
        std::string heard(4096, '\0');
        heard.resize(std::size_t(std::max<ssize_t>(0, read(from[0], heard.data(), heard.size()))));
        close(from[0]);
        CHECK((heard.find("AUTH PLAIN") != heard.npos) == (where == ClearAuth::everywhere));
    }
}

TEST_CASE("where there is TLS, AUTH is offered behind it and 538 before it") {
    const auto played =
        dialogue(greeted + "C: " + plain() + "\nS: 538 5.7.11\nC: STARTTLS\nS: 220\nC: " + plain() +
                     "\nS: 503 5.5.1\nC: EHLO me\nS: 250\nC: " + plain() + "\nS: 235 2.7.0\n" + mail + in_step,
                 with_plain_tls());
    CHECK(played.heard.find("AUTH") > played.heard.find("220 2.0.0"));
    CHECK(played.heard.find("250-AUTH PLAIN ASK\r\n") != std::string::npos);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].protocol == "ESMTPSA");
}

TEST_CASE("STARTTLS forgets who has authenticated before it") {
    auto setup = with_plain_tls();
    setup.options.clear_auth = ClearAuth::everywhere;
    const auto played = dialogue(greeted + "C: " + plain() + "\nS: 235\nC: STARTTLS\nS: 220\nC: EHLO me\nS: 250\n" +
                                     mail + "C: " + plain() + "\nS: 235\n" + mail + in_step,
                                 setup);
    REQUIRE(played.mails.size() == 2);
    CHECK(played.mails[0].protocol == "ESMTPS");
    CHECK(played.mails[1].protocol == "ESMTPSA");
}

TEST_CASE("a mechanism knows its channel") {
    auto toy = std::make_shared<Toy>();
    std::string seen;
    auto look = [&seen](const Channel& c) {
        seen += std::string(c.tls ? c.tls->version : "clear") + ' ' + c.binding("tls-exporter") + ' ' + c.hostname +
                ' ' + (c.peer.host == "/" ? "local" : c.peer.host) + '\n';
    };
    toy->made["LOOK"] = [look](const Channel& c) {
        look(c);
        return std::make_unique<ToyExchange>(toy_plain);
    };
    auto setup = with_plain_tls(toy);
    setup.options.clear_auth = ClearAuth::everywhere;
    const auto attempt = "C: AUTH LOOK " + base64_encode(wrong) + "\nS: 535\n";
    dialogue(greeted + attempt + "C: STARTTLS\nS: 220\nC: EHLO me\nS: 250\n" + attempt + in_step, setup);
    CHECK(seen == "clear  mx.test local\nTLSv1.3 bound by tls-exporter mx.test local\n");
}

TEST_CASE("names that are no mechanism's are not offered") {
    auto toy = std::make_shared<Toy>();
    toy->offer = {"",  "plain",   "A B", "X\r\nY", std::string(21, 'A'), std::string(20, 'B'), "SCRAM-SHA-256-PLUS",
                  "Ä", "UNDER_9", "=",   "PLAIN"};
    CHECK(offered_to(authenticating(toy)) == "AUTH " + std::string(20, 'B') + " SCRAM-SHA-256-PLUS UNDER_9 PLAIN");
    toy->offer = {"plain", ""};
    CHECK(offered_to(authenticating(toy)) == "");
}

TEST_CASE("where it is not offered, AUTH is 502, and no line may be longer for it") {
    const auto script = greeted + "C: " + plain() + "\nS: 502 5.5.1\nC: AUTH PLAIN " + std::string(2048, 'A') +
                        "\nS: 500 5.5.2\n" + in_step;
    dialogue(script, {});
    auto setup = authenticating();
    setup.options.clear_auth = ClearAuth::never;
    dialogue(script, setup);
    auto toy = std::make_shared<Toy>();
    toy->offer.clear();
    dialogue(script, authenticating(toy));
    CHECK(toy->begun == 0);
}

TEST_CASE("an authenticator that throws offers nothing, and costs nobody his session") {
    auto toy = std::make_shared<Toy>();
    toy->on_mechanisms = [](const Channel&) { throw std::runtime_error("no mechanisms today"); };
    auto setup = authenticating(toy);
    setup.listeners = [](Server&) {};
    const auto played = dialogue(greeted + "C: " + plain() + "\nS: 502\n" + in_step, setup);
    CHECK(played.troubles == std::vector<std::string>{"no mechanisms today", "no mechanisms today"});
    CHECK(played.heard.find("today") == std::string::npos);
}

// ---- when ----

TEST_CASE("AUTH comes after EHLO, once, and not within a transaction") {
    const auto setup = authenticating();
    dialogue(
        "S: 220\nC: " + plain() + "\nS: 503 5.5.1\nC: HELO me\nS: 250\nC: " + plain() + "\nS: 503 5.5.1\n" + in_step,
        setup);
    const auto begun = greeted + "C: MAIL FROM:<a@b>\nS: 250\nC: " + plain() + "\nS: 503 5.5.1\n";
    dialogue(begun + "C: RSET\nS: 250\nC: " + plain() + "\nS: 235 2.7.0\n" + in_step, setup);
    const auto chunks = "C: RCPT TO:<c@d>\nS: 250\nC: BDAT 1\nc: x\nS: 250\nC: " + plain() + "\nS: 503 5.5.1\n";
    CHECK(dialogue(begun + chunks + "C: BDAT 0 LAST\nS: 250\n" + in_step, setup).mails.size() == 1);
    const auto played =
        dialogue(greeted + "C: " + plain() + "\nS: 235 2.7.0\nC: " + plain() +
                     "\nS: 503 5.5.1\nC: EHLO again\nS: 250\nC: " + plain() + "\nS: 503 5.5.1\n" + in_step,
                 setup);
    CHECK(played.heard.rfind("250-AUTH") == played.heard.find("250-AUTH"));  // not again after success
}

TEST_CASE("LMTP has it too") {
    auto setup = authenticating();
    setup.options.protocol = Protocol::lmtp;
    const auto played = dialogue("S: 220\nC: " + plain() + "\nS: 503 5.5.1 LHLO\nC: LHLO me\nS: 250\nC: " + plain() +
                                     "\nS: 235 2.7.0\n" + mail + in_step,
                                 setup);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].protocol == "LMTPA");
}

// ---- an exchange ----

TEST_CASE("an exchange goes on until its mechanism is satisfied, however its octets come") {
    for (const auto pace : paces) {
        auto setup = authenticating();
        setup.pace = pace;
        dialogue(greeted + "C: " + plain() + "\nS: 235 2.7.0\n" + in_step, setup);
        dialogue(greeted + "C: AUTH PLAIN\nS: 334 \n" + says(credentials) + "S: 235 2.7.0\n" + in_step, setup);
        dialogue(greeted + "C: auth plain\nS: 334 \n" + says(credentials) + "S: 235 2.7.0\n" + in_step, setup);
        dialogue(greeted + "C: AUTH ASK\n" + asks("Name") + says("joe") + asks("Password") + says("sesame") +
                     "S: 235 2.7.0\n" + in_step,
                 setup);
        dialogue(greeted + "C: AUTH ASK\n" + asks("Name") + says("joe") + asks("Password") + says("secret") +
                     "S: 535 5.7.8\n" + in_step,
                 setup);
    }
}

TEST_CASE("an empty challenge is 334 and a blank") {
    const auto heard =
        dialogue(greeted + "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 5.7.0\n" + in_step, authenticating()).heard;
    CHECK(heard.find("\r\n334 \r\n501 ") != std::string::npos);
}

TEST_CASE("\"=\" is an empty initial response, which is not the same as none") {
    auto toy = std::make_shared<Toy>();
    std::vector<std::string> seen;
    toy->add("LOOK", [&seen](Response r) -> Step {
        seen.push_back(r ? '"' + std::string(*r) + '"' : "none");
        return r ? Step{Is::success, "", "joe"} : Step{Is::challenge};
    });
    dialogue(greeted + "C: AUTH LOOK =\nS: 235\n" + in_step, authenticating(toy));
    CHECK(seen == std::vector<std::string>{"\"\""});
    seen.clear();
    dialogue(greeted + "C: AUTH LOOK\nS: 334 \nC: \nS: 235\n" + in_step, authenticating(toy));
    CHECK(seen == std::vector<std::string>{"none", "\"\""});
    seen.clear();
    dialogue(greeted + "C: AUTH LOOK\nS: 334 \nC: =\nS: 501 5.5.2\n" + in_step, authenticating(toy));
    CHECK(seen == std::vector<std::string>{"none"});
}

TEST_CASE("an initial response where the server speaks first is 501, and no response") {
    dialogue(
        greeted + "C: AUTH ASK " + base64_encode("joe") + "\nS: 501 5.7.0\nC: AUTH ASK =\nS: 501 5.7.0\n" + in_step,
        authenticating());
}

TEST_CASE("a mechanism that nobody knows is 504, a name that is none 501") {
    auto toy = std::make_shared<Toy>();
    auto script = greeted;
    for (const std::string name :
         {"NTLM", "PLAI", "PLAIN-", "PLAINX", "GSSAPI AAAA", "EXTERNAL =", "12345678901234567890"})
        script += "C: AUTH " + name + "\nS: 504 5.5.4\n";
    CHECK(dialogue(script + in_step, authenticating(toy)).mails.empty());
    CHECK(toy->begun == 7);
    script = greeted;
    for (const std::string argument : {"", "PLAIN*", "P.LAIN", "123456789012345678901", " PLAIN", "PLAIN  AAAA",
                                       "PLAIN AAAA BBBB", "PLAIN\\tAAAA", "PL\\xC4IN", "PLAIN= AAAA"})
        script += "C: AUTH " + argument + "\nS: 501 5.5.4\n";
    dialogue(script + in_step, authenticating(toy));
    CHECK(toy->begun == 7);
}

TEST_CASE("what is not base64 is 501 5.5.2, in the command and in a response") {
    auto toy = std::make_shared<Toy>();
    toy->add("LOOK", [](Response r) -> Step {
        CHECK(!r);
        return {Is::challenge};
    });
    auto in_command = greeted, in_response = greeted;
    for (const std::string text : {"A", "AA", "AAA", "AAAAA", "AA=", "A===", "====", "==", "AA==AA==", "AAA*", "**",
                                   "AAA-", "AAA_", "AB==", "AA\\xC4A"}) {
        in_command += "C: AUTH LOOK " + text + "\nS: 501 5.5.2\n";
        in_response += "C: AUTH LOOK\nS: 334 \nC: " + text + "\nS: 501 5.5.2\n";
    }
    in_command += "C: AUTH LOOK *\nS: 501 5.5.2\n";
    for (const std::string text : {"AAA A", " AAAA", "AAAA ", "A\\0AA", "AAA\\n", "AAAA\\r", "* ", "=", "\\0"})
        in_response += "C: AUTH LOOK\nS: 334 \nC: " + text + "\nS: 501 5.5.2\n";
    dialogue(in_command + in_step, authenticating(toy));
    dialogue(in_response + in_step, authenticating(toy));
}

TEST_CASE("a star cancels, at every step, and leaves the session as it was") {
    const auto none = "C: *\nS: 501 5.7.0\n";
    const auto played = dialogue(greeted + "C: AUTH PLAIN\nS: 334 \n" + none + "C: AUTH ASK\n" + asks("Name") + none +
                                     "C: AUTH ASK\n" + asks("Name") + says("joe") + asks("Password") + none +
                                     "C: AUTH SIGNED " + base64_encode(credentials) + '\n' + asks("signature") + none +
                                     mail + "C: " + plain() + "\nS: 235\n" + in_step,
                                 authenticating());
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].protocol == "ESMTP");
}

TEST_CASE("a line of a response is no command, whatever it says") {
    for (const std::string line : {"QUIT", "RSET", "NOOP", "HELO", "EHLO", "DATA", "AUTH"}) {
        CAPTURE(line);
        dialogue(greeted + "C: AUTH PLAIN\nS: 334 \nC: " + line + "\nS: 535 5.7.8\n" + in_step, authenticating());
    }
    for (const std::string line : {"EHLO me", "MAIL FROM:<a@b>", "QUIT ", "STARTTLS!", "."}) {
        CAPTURE(line);
        dialogue(
            greeted + "C: AUTH PLAIN\nS: 334 \nC: " + line + "\nS: 501 5.5.2\nC: RCPT TO:<c@d>\nS: 503\n" + in_step,
            authenticating());
    }
}

TEST_CASE("any octet may be in a response, NUL and those above 127 too") {
    std::string all;
    for (int i = 0; i < 256; ++i) all += char(i);
    auto toy = std::make_shared<Toy>();
    std::vector<std::string> seen;
    toy->add("ECHO", [&seen](Response r) -> Step {
        if (!r) return {Is::challenge, "?"};
        seen.emplace_back(*r);
        if (seen.size() < 2) return {Is::challenge, std::string(*r)};
        return {Is::success, "", "joe"};
    });
    dialogue(greeted + "C: AUTH ECHO " + base64_encode(all) + '\n' + asks(all) + says(std::string(1, '\0')) +
                 "S: 235\n" + in_step,
             authenticating(toy));
    REQUIRE(seen.size() == 2);
    CHECK((seen[0] == all));
    CHECK((seen[1] == std::string(1, '\0')));
}

TEST_CASE("data that comes with success is a challenge, and wants an empty response") {
    const auto begin = greeted + "C: AUTH SIGNED " + base64_encode(credentials) + '\n' + asks("signature");
    dialogue(begin + "C: \nS: 235 2.7.0\nC: " + plain() + "\nS: 503\n" + in_step, authenticating());
    for (const std::string line : {"AAAA", "x", "=", "QUIT"}) {
        CAPTURE(line);
        dialogue(begin + "C: " + line + "\nS: 501\nC: " + plain() + "\nS: 235\n" + in_step, authenticating());
    }
    dialogue(begin + "C: *\nS: 501 5.7.0\nC: " + plain() + "\nS: 235\n" + in_step, authenticating());
}

TEST_CASE("nobody can tell from the answer what was wrong") {
    auto answers = [](const std::string& said) {
        auto heard = dialogue(greeted + said + "S: 535 5.7.8\n" + in_step, authenticating()).heard;
        return heard.substr(heard.find("535"), heard.find("\r\n", heard.find("535")) - heard.find("535"));
    };
    const auto first = answers("C: " + plain(wrong) + '\n');
    CHECK(first.size() > 10);
    CHECK(answers("C: " + plain(std::string("\0nemo\0sesame", 12)) + '\n') == first);
    CHECK(answers("C: " + plain("x") + '\n') == first);
    CHECK(answers("C: AUTH PLAIN =\n") == first);
    CHECK(answers("C: AUTH ASK\n" + asks("Name") + says("nemo") + asks("Password") + says("x")) == first);
    CHECK(answers("C: AUTH TELLING " + base64_encode(wrong) + '\n' + asks("{\"status\":\"401\"}") + "C: AQ==\n") ==
          first);
}

TEST_CASE("an exchange that nobody can judge now is 454, and so is one that throws") {
    auto setup = authenticating();
    setup.listeners = [](Server&) {};
    const auto played =
        dialogue(greeted +
                     "C: AUTH LATER =\nS: 454 4.7.0\nC: AUTH THROWS\nS: 454 4.7.0\n"
                     "C: AUTH THROWSINT =\nS: 454 4.7.0\n"
                     "C: AUTH THROWSLATE\n" +
                     asks("go on") + "C: \nS: 454 4.7.0\n" + mail + "C: " + plain() + "\nS: 235\n" + in_step,
                 setup);
    CHECK(played.heard.find("hush") == std::string::npos);
    REQUIRE(played.troubles.size() == 3);
    CHECK(played.troubles[0] == "the directory's password is hush");
    CHECK(played.troubles[2] == "the directory's password is hush");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].protocol == "ESMTP");
}

TEST_CASE("a mechanism that never ends is ended after twenty steps") {
    auto script = greeted + "C: AUTH ENDLESS =\n";
    for (int i = 0; i < 20; ++i) script += asks("more") + says("and more");
    dialogue(script + "S: 535 5.7.8\n" + in_step, authenticating());
}

TEST_CASE("a user must have a name that can be written down") {
    auto setup = authenticating();
    setup.listeners = [](Server&) {};
    auto script = greeted + "C: AUTH NOBODY =\nS: 454 4.7.0\n";
    for (const auto& name : {std::string(""), std::string("a\0b", 3), std::string("a\r\nQUIT"), std::string("\x7F")})
        script += "C: AUTH NAME " + (name.empty() ? "=" : base64_encode(name)) + "\nS: 454 4.7.0\n";
    const auto played =
        dialogue(script + mail + "C: AUTH NAME " + base64_encode("J\xC3\xB6rg") + "\nS: 235\n" + in_step, setup);
    CHECK(played.troubles.size() == 5);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].protocol == "ESMTP");
}

// ---- lengths ----

TEST_CASE("a response may have 12,288 octets of base64, whatever the limit of other lines") {
    for (const std::size_t limit : {512, 2048, 12'290, 65'536}) {
        CAPTURE(limit);
        auto toy = std::make_shared<Toy>();
        std::vector<std::size_t> seen;
        toy->add("SIZE", [&seen](Response r) -> Step {
            if (r) seen.push_back(r->size());
            return r ? Step{Is::failure} : Step{Is::challenge};
        });
        auto setup = authenticating(toy);
        setup.options.max_command_line = limit;
        for (const bool initial : {true, false}) {
            Talk talk(setup);
            talk.play(greeted);
            for (const std::size_t size : {12'284, 12'288, 12'292, 12'289}) {
                CAPTURE(size);
                if (!initial) talk.play("C: AUTH SIZE\nS: 334 ");
                talk.wire.send((initial ? "AUTH SIZE " : "") + std::string(size, 'A') + "\r\n");
                talk.wire.expect(size <= 12'288 ? "535 5.7.8" : "500 5.5.6");
            }
            talk.play(in_step);
            talk.end();
        }
        CHECK(seen == std::vector<std::size_t>{9213, 9216, 9213, 9216});
    }
}

TEST_CASE("a name of twenty letters takes nothing of an initial response") {
    auto toy = std::make_shared<Toy>();
    const std::string name(20, 'N');
    toy->add(name, [](Response) -> Step { return {Is::failure}; });
    Talk talk(authenticating(toy));
    talk.play(greeted);
    talk.wire.send("AUTH " + name + ' ' + std::string(12'288, 'A') + "\r\n");
    talk.wire.expect("535");
    talk.wire.send("AUTH " + name + ' ' + std::string(12'289, 'A') + "\r\n");
    talk.wire.expect("500");
    talk.play(in_step);
    talk.end();
}

TEST_CASE("of what is far too long nothing is left over, in the command and in a response") {
    for (const std::size_t size : {12'290, 16'384, 65'536, 1 << 20}) {
        CAPTURE(size);
        Talk talk(authenticating());
        talk.play(greeted);
        talk.wire.send("AUTH PLAIN " + std::string(size, 'A') + "\nQUIT\rQUIT\r\nNOOP\r\n");
        talk.wire.expect("500");
        talk.wire.expect("250");
        talk.play("C: AUTH PLAIN\nS: 334 ");
        talk.wire.send(std::string(size, 'A') + "\nQUIT\rQUIT\r\nNOOP\r\n");
        talk.wire.expect("500 5.5.6");
        talk.wire.expect("250");
        talk.play("C: " + plain() + "\nS: 235\n" + in_step);
        talk.end();
    }
}

TEST_CASE("other commands have their own limit though AUTH could be longer, and AUTH has it too when it is over") {
    Talk talk(authenticating());
    talk.play(greeted);
    auto both = [&] {
        for (const std::string verb : {"NOOP ", "BOTH "}) {
            talk.wire.send(verb + std::string(2041, 'x') + "\r\n");
            talk.wire.expect(verb == "NOOP " ? "250" : "500 5.5.1");
            for (const std::size_t more : {2042, 5000, 12'300, 20'000}) {
                talk.wire.send(verb + std::string(more, 'x') + "\r\n");
                talk.wire.expect("500 5.5.2");
            }
        }
    };
    both();
    talk.wire.send("AUTH PLAIN " + std::string(2048, 'A') + "\r\n");
    talk.wire.expect("535");
    talk.play("C: MAIL FROM:<a@b>\nS: 250");
    talk.wire.send("AUTH PLAIN " + std::string(2048, 'A') + "\r\n");
    talk.wire.expect("500 5.5.2");
    talk.play("C: RSET\nS: 250\nC: " + plain() + "\nS: 235");
    both();
    talk.wire.send("AUTH PLAIN " + std::string(2048, 'A') + "\r\n");
    talk.wire.expect("500 5.5.2");
    talk.wire.send("AUTH PLAIN " + std::string(2032, 'A') + "\r\n");
    talk.wire.expect("503");
    talk.play(in_step);
    talk.end();
}

// ---- what comes too soon ----

TEST_CASE("commands behind an AUTH that is complete in its line are commands, of whoever it has made the client") {
    auto setup = authenticating();
    setup.options.require_auth = true;
    setup.pace = Pace::at_once;
    const std::string rest = "C: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: QUIT\n";
    dialogue("C: EHLO me\nC: " + plain() + '\n' + rest + "S: 220\nS: 250\nS: 235\nS: 250\nS: 250\nS: 221\nS: EOF",
             setup);
    dialogue("C: EHLO me\nC: " + plain(wrong) + '\n' + rest + "S: 220\nS: 250\nS: 535\nS: 530\nS: 503\nS: 221\nS: EOF",
             setup);
}

TEST_CASE("what is there before it was asked for is no response: AUTH is 503, and each line is a command") {
    auto toy = std::make_shared<Toy>();
    auto setup = authenticating(toy);
    dialogue(greeted + "C: AUTH PLAIN\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nS: 503 5.5.1\nS: 250\nS: 250\n" + in_step,
             setup);
    dialogue(greeted + "C: AUTH PLAIN\nC: " + base64_encode(credentials) + "\nS: 503 5.5.1\nS: 500 5.5.1\n" + in_step,
             setup);
    dialogue(greeted + "C: AUTH PLAIN\nC: NOOP\nC: *\nS: 503 5.5.1\nS: 250\nS: 500\n" + in_step, setup);
    // Half a line is no line, but it was not asked for either.
    dialogue(greeted + "c: AUTH PLAIN\\r\\nNO\nS: 503 5.5.1\nC: OP\nS: 250\n" + in_step, setup);
    dialogue(greeted + "C: AUTH ASK\n" + asks("Name") + says("joe") + says("sesame") + "S: 503 5.5.1\nS: 500 5.5.1\n" +
                 in_step,
             setup);
    dialogue(greeted + "C: AUTH SIGNED " + base64_encode(credentials) + "\nC: \nS: 503 5.5.1\nS: 500 5.5.2\n" + in_step,
             setup);
}

TEST_CASE("what the system holds of it counts as much as what was read already") {
    Talk talk(authenticating());
    talk.play(greeted);
    // More than the buffer of a session that talks.
    talk.wire.send("NOOP " + std::string(237, 'x') + "\r\nAUTH PLAIN\r\n" + "NOOP " + std::string(900, 'x') + "\r\n");
    talk.wire.expect("250");
    talk.wire.expect("503 5.5.1");
    talk.wire.expect("250");
    talk.play(in_step);
    talk.end();
}

// ---- what is left of it ----

TEST_CASE("after success the session knows who and how, and the trace says so") {
    std::string seen;
    auto setup = authenticating();
    setup.handler = [&seen](Server::Client& c) {
        seen += '[' + c.user() + ' ' + c.mechanism() + ' ' + c.MSG.trace().protocol + ']';
        c.accept();
    };
    dialogue(greeted + mail + "C: " + plain(wrong) + "\nS: 535\n" + mail + "C: auth plain " +
                 base64_encode(credentials) + "\nS: 235\n" + mail + "C: EHLO me\nS: 250\nC: RSET\nS: 250\n" + mail +
                 in_step,
             setup);
    CHECK(seen == "[  ESMTP][  ESMTP][joe PLAIN ESMTPA][joe PLAIN ESMTPA]");
}

TEST_CASE("require_auth: no mail before it, postmaster's neither, and everything after it") {
    auto setup = authenticating();
    setup.options.require_auth = true;
    const auto played = dialogue(greeted +
                                     "C: MAIL FROM:<a@b>\nS: 530 5.7.0\nC: MAIL FROM:<>\nS: 530 5.7.0\n"
                                     "C: RCPT TO:<postmaster>\nS: 503\nC: VRFY x\nS: 252\nC: NOOP\nS: 250\nC: " +
                                     plain(wrong) +
                                     "\nS: 535\nC: MAIL FROM:<a@b>\nS: 530 5.7.0\nC: HELO me\nS: 250\n"
                                     "C: MAIL FROM:<a@b>\nS: 530 5.7.0\nC: EHLO me\nS: 250\nC: " +
                                     plain() + "\nS: 235\n" + mail + mail + in_step,
                                 setup);
    CHECK(played.mails.size() == 2);
}

// ---- the AUTH parameter of MAIL ----

namespace {

// What FROM.auth is after such a MAIL.
std::string submitter(const std::string& user, const std::string& parameter, bool smtputf8 = false) {
    std::string seen = "no mail";
    auto setup = authenticating();
    setup.options.offer.smtputf8 = smtputf8;
    setup.handler = [&seen](Server::Client& c) {
        seen = c.FROM.auth ? '<' + *c.FROM.auth + '>' : "unsaid";
        c.accept();
    };
    auto script = greeted;
    if (!user.empty()) script += "C: " + plain('\0' + user + '\0' + "sesame") + "\nS: 235\n";
    script +=
        "C: MAIL FROM:<a@b>" + parameter + "\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: 250\n";
    dialogue(script + in_step, setup);
    return seen;
}

}  // namespace

TEST_CASE("MAIL's AUTH= is believed of who is trusted, and of nobody else") {
    CHECK(submitter("gateway", " AUTH=e+3Dmc2@example.com") == "<e=mc2@example.com>");
    CHECK(submitter("gateway", " auth=jo@example.com SIZE=5") == "<jo@example.com>");
    CHECK(submitter("gateway", " AUTH=<>") == "<>");
    CHECK(submitter("gateway", " AUTH=+3C+3E") == "<>");
    CHECK(submitter("gateway", "") == "unsaid");
    CHECK(submitter("joe", " AUTH=jo@example.com") == "<>");
    CHECK(submitter("joe", " AUTH=<>") == "<>");
    CHECK(submitter("joe", "") == "unsaid");
    CHECK(submitter("", " AUTH=jo@example.com") == "<>");
    CHECK(submitter("thrower", " AUTH=jo@example.com") == "<>");
    CHECK(submitter("gateway", " AUTH=+22j+20o+22@example.com") == "<\"j o\"@example.com>");
    CHECK(submitter("gateway", " AUTH=j+C3+B6@example.com SMTPUTF8", true) == "<j\xC3\xB6@example.com>");
}

TEST_CASE("MAIL's AUTH= is a mailbox or <>, or 501; where AUTH is not offered it is 555") {
    auto script = greeted;
    for (const std::string value :
         {"", "=", "=jo", "=<jo@b>", "=+", "=+3", "=+3d@b", "=a@b=c", "=a@", "=@b", "=postmaster", "=+3C", "=<",
          "=+0D+0A@b", "=a+00@b", "=a@b+0D+0A", "=j+C3+B6@b", "=a@b,c@d"}) {
        script += "C: MAIL FROM:<a@b> AUTH" + value + "\nS: 501 5.5.4\n";
    }
    script += "C: MAIL FROM:<a@b> AUTH=<> AUTH=<>\nS: 501 5.5.4\n";
    dialogue(script + in_step, authenticating());
    const auto refused = "C: MAIL FROM:<a@b> AUTH=<>\nS: 555 5.5.4\n";
    dialogue(greeted + refused + in_step, {});
    dialogue("S: 220\nC: HELO me\nS: 250\n" + std::string(refused) + in_step, authenticating());
    dialogue(
        greeted + refused + "C: STARTTLS\nS: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> AUTH=<>\nS: 250\n" + in_step,
        with_plain_tls());
}

TEST_CASE("MAIL's AUTH= is still known when EHLO is said again after success") {
    dialogue(greeted + "C: " + plain() + "\nS: 235\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> AUTH=<>\nS: 250\n" + in_step,
             authenticating());
}

TEST_CASE("a submitter may be as long as a mailbox") {
    std::string domain(15, 'd');
    while (domain.size() < 255) domain += '.' + std::string(15, 'd');
    const auto longest = std::string(64, 'l') + '@' + domain;
    CHECK(submitter("gateway", " AUTH=" + longest) == '<' + longest + '>');
    dialogue(greeted + "C: MAIL FROM:<a@b> AUTH=" + longest + "d\nS: 501 5.5.4\n" + in_step, authenticating());
}

// ---- secrets ----

TEST_CASE("a line that held a secret is overwritten where it was") {
    const auto [ours, theirs] = socket_pair();
    Wire wire(ours);
    Connection connection(theirs);
    wire.send("secret\r\nNOOP\r\n");
    std::string_view line, next;
    REQUIRE(connection.read_line(line, 2048, Clock::now() + patience) == Connection::Got::data);
    REQUIRE(line == "secret");
    const auto* const place = line.data();
    connection.wipe();
    CHECK((std::string(place, 6) == std::string(6, '\0')));
    REQUIRE(connection.read_line(next, 2048, Clock::now() + patience) == Connection::Got::data);
    CHECK(next == "NOOP");
    Connection().wipe();
}
