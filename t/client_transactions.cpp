// client_transactions -- one mail after the other, one session beside the other: nothing passes between them.
#include "dialogue.hpp"

using namespace test;

TEST_CASE("two mails of one session share nothing") {
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME
        S: 250
        C: RCPT TO:<c@d>
        S: 250
        C: RCPT TO:<e@f>
        S: 250
        C: DATA
        S: 354
        C: first, and the longer one of the two
        C: .
        S: 250
        C: MAIL FROM:<g@h>
        S: 250
        C: DATA
        S: 503
        C: RCPT TO:<i@j>
        S: 250
        C: DATA
        S: 354
        C: second
        C: .
        S: 250
        C: QUIT
        S: 221
    )");
    REQUIRE(played.mails.size() == 2);
    CHECK(played.mails[0].text == "first, and the longer one of the two\r\n");
    CHECK(played.mails[1].text == "second\r\n");
    CHECK(played.mails[1].from.str() == "g@h");
    CHECK(!played.mails[1].from.size);
    CHECK(played.mails[1].from.body == BodyType::seven_bit);
    REQUIRE(played.mails[1].to.size() == 1);
    CHECK(played.mails[1].to[0].str() == "i@j");
    CHECK(played.mails[0].id != played.mails[1].id);
    CHECK(played.mails[0].to[0].id != played.mails[1].to[0].id);
}

TEST_CASE("RSET, HELO and EHLO forget the transaction") {
    for (const std::string verb : {"RSET", "EHLO again", "HELO again"}) {
        CAPTURE(verb);
        const auto played = dialogue(std::string(opening) + "C: " + verb + R"(
            S: 250
            C: DATA
            S: 503
            C: RCPT TO:<x@y>
            S: 503
            C: MAIL FROM:<g@h>
            S: 250
            C: RCPT TO:<i@j>
            S: 250
            C: DATA
            S: 354
            C: x
            C: .
            S: 250
            C: QUIT
            S: 221
        )");
        REQUIRE(played.mails.size() == 1);
        CHECK(played.mails[0].from.str() == "g@h");
        CHECK(played.mails[0].to.size() == 1);
        CHECK(played.mails[0].helo == (std::string(verb) == "RSET" ? "me" : "again"));
    }
}

TEST_CASE("a refused EHLO leaves the session as it was") {
    const auto played =
        dialogue(std::string(opening) + "C: EHLO\nS: 501\nC: DATA\nS: 354\nC: x\nC: .\nS: 250\nC: QUIT\nS: 221");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].helo == "me");
}

TEST_CASE("RSET before HELO does not stand for it") {
    dialogue("S: 220\nC: RSET\nS: 250\nC: MAIL FROM:<a@b>\nS: 503\nC: QUIT\nS: 221\nS: EOF");
}

TEST_CASE("two sessions at once mix nothing, not half a line") {
    Talk a, b;
    for (auto* t : {&a, &b}) t->play("S: 220\nC: EHLO me\nS: 250");
    a.wire.send_alone("NO");
    b.wire.send_alone("OP\r\n");
    b.play("S: 500");
    a.play("c: OP\\r\\n\nS: 250");
    a.play("C: MAIL FROM:<one@x>\nS: 250\nC: RCPT TO:<p@y>\nS: 250\nC: DATA\nS: 354\nc: of the fir");
    b.play("C: MAIL FROM:<two@x>\nS: 250\nC: RCPT TO:<q@z>\nS: 250\nC: DATA\nS: 354\nc: of the sec");
    a.play("C: st\nC: .\nS: 250");
    b.play("C: ond\nC: .\nS: 250");
    const auto& one = a.end();
    const auto& two = b.end();
    REQUIRE(one.size() == 1);
    REQUIRE(two.size() == 1);
    CHECK(one[0].text == "of the first\r\n");
    CHECK(two[0].text == "of the second\r\n");
    CHECK(one[0].from.str() == "one@x");
    CHECK(one[0].id.substr(0, 13) != two[0].id.substr(0, 13));
}

TEST_CASE("the fields are empty while no mail is there") {
    Talk talk({.program = [](Server::Client& c) {
        CHECK(c.helo().empty());
        REQUIRE(c.process());
        CHECK(c.FROM.str() == "a@b");
        CHECK(std::string_view(c.MSG) == "x\r\n");
        c.accept();
        CHECK(!c.process());
        CHECK(c.FROM.unset());
        CHECK(c.TO.empty());
        CHECK(c.MSG.empty());
        CHECK(c.closed());
    }});
    talk.play(std::string(opening) + "C: DATA\nS: 354\nC: x\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
}

TEST_CASE("process() after the end is a mistake of the program") {
    for (const std::string how : {"S: 220\nC: QUIT\nS: 221\nS: EOF", "S: 220\nC: EOF\nS: EOF"}) {
        Talk talk({.program = [](Server::Client& c) {
            CHECK(!c.process());
            CHECK_THROWS_AS(c.process(), std::logic_error);
            CHECK_THROWS_AS(c.accept(), std::logic_error);
            CHECK_THROWS_AS(c.reject({550, "5.7.1", "no"}), std::logic_error);
            CHECK_THROWS_AS(c.baggage(), std::logic_error);
            CHECK_NOTHROW(c.answer());
        }});
        talk.play(how);
        talk.end();
    }
}

TEST_CASE("a mail that was answered 250 stays the program's when the client just leaves") {
    for (const bool rudely : {false, true}) {
        Talk talk;
        talk.play(std::string(opening) + "C: DATA\nS: 354\nC: x\nC: .");
        // The answer is due with the next process(); whether it can be sent must not matter.
        if (!rudely) talk.play("S: 250");
        CHECK(talk.end().size() == 1);
    }
}
