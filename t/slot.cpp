// slot -- tests of Slot: who has a place, who is one too many, and for how many of those a server waits.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "../Server/Shared.hpp"

using namespace Net::SMTP;

TEST_CASE("of a flood of those turned away 64 at most are waited for") {
    for (const bool per_ip : {false, true}) {
        CAPTURE(per_ip);
        Options o;
        (per_ip ? o.max_connections_per_ip : o.max_connections) = 1;
        const auto shared = std::make_shared<Shared>(o);
        const std::string ip = per_ip ? "192.0.2.1" : "";
        auto in = std::make_unique<Slot>(shared, ip);
        CHECK_FALSE(in->over());
        std::vector<std::unique_ptr<Slot>> away;
        for (int i = 0; i < 70; ++i) {
            away.push_back(std::make_unique<Slot>(shared, ip));
            CHECK(away.back()->over());
            CHECK(away.back()->hurried() == (i >= 64));
        }
        in.reset();
        CHECK_FALSE(Slot(shared, ip).over());  // the place was kept for nobody
        away.erase(away.begin(), away.begin() + 7);
        in = std::make_unique<Slot>(shared, ip);
        CHECK_FALSE(Slot(shared, ip).hurried());
        away.clear();
        CHECK(shared->turned_away == 0);
    }
}
