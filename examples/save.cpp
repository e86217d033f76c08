// save -- keeps each mail in a file of its own, on stable storage before the sender hears 250.
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, {"--listen=", "--dir="});
    const auto dir = given("--dir", ".");
    Server server(given.all("--listen", "127.0.0.1:2525"), {.spool_dir = dir});
    ready(server);

    // When save() throws, the sender hears 452 and nothing is left in the folder.
    server.run([&](Server::Client& client) { client.MSG.save(dir + '/' + client.MSG.id() + ".eml"); });
}
