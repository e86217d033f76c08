// store_codec -- tests of StoreCodec: what stores keep of replies, and what they make of nonsense.
#include "../Relay/StoreCodec.hpp"

#include <doctest/doctest.h>

using namespace Net::SMTP;

TEST_CASE("a reply comes back from a store as it was") {
    for (const Reply& reply : {Reply{550, "5.1.1", "No such user"}, Reply{451, "", "later"}, Reply{250, "2.0.0", ""},
                               Reply{599, "5.7.1", "two\nlines, and a blank"}, Reply{200, "", ""}})
        CHECK(decode_reply(encode_reply(reply)) == reply);
    CHECK(decode_reply(encode_reply({0, "", ""})) == Reply{0, "", ""});
    CHECK(decode_reply(encode_reply({550, "no status", "x"})) == Reply{550, "", "x"});
}

TEST_CASE("what is no reply in a store is none") {
    for (const auto* text : {"", "550", "550 ", "550\n", "\n550 ", "550x 5.1.1\nno", "x 5.1.1\nno", "-550 5.1.1\nno",
                             "199 \nno", "600 \nno", "99999999999 \nno", "550 5.1\nno", "550 nonsense\nno"}) {
        CAPTURE(text);
        CHECK(decode_reply(text) == Reply{0, "", ""});
    }
}
